/** The Bitcoin networks: what we call them, what bitcoind calls them, and the block each of them begins with. */

export const NETWORKS = ["mainnet", "testnet", "signet", "regtest"] as const;

export type Network = (typeof NETWORKS)[number];

/** Whether a text names a network. */
export function isNetwork(text: string): text is Network {
  return (NETWORKS as readonly string[]).indexOf(text) >= 0;
}

/** What bitcoind calls the chain of each network (`getblockchaininfo`). Testnet has two: the older and the newer. */
export const BITCOIND_CHAINS: { readonly [network in Network]: readonly string[] } = {
  mainnet: ["main"],
  testnet: ["test", "testnet4"],
  signet: ["signet"],
  regtest: ["regtest"],
};

/** First block of each network, as explorers write its hash. */
export const GENESIS: { readonly [network in Network]: readonly string[] } = {
  mainnet: ["000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"],
  testnet: [
    "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
  ],
  signet: ["00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"],
  regtest: ["0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"],
};
