// In the simulator the computer is online, and its clock right.
export default () => Promise.resolve();
