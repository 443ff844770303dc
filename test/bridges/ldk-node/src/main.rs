//! LDK Node as a process that tests lead: bridge or destination, as it comes but for what a test on one machine needs.
//!
//!   ldk-node-process --name NAME --data DIR --rpc http://127.0.0.1:PORT --cookie FILE --listen PORT
//!
//! It speaks as the plain LDK of scripts/peer/main.ts does: a line of JSON `{"id": 1, "command": "…", …}` on standard
//! input, a line `{"id": 1, "result": …}` or `{"id": 1, "error": {"code", "message"}}` for each, and lines
//! `{"event": "…", …}` for what happens by itself, the first of which is `ready`. It ends when its input does.
//!
//!   connect     { peer: "id@host:port" }                     → {}, and stays connected
//!   open        { peer, sat, pushSat?, announced? }          → channel, once it can be used (mine meanwhile)
//!   channels                                                 → [channel]
//!   address                                                  → { address } of its wallet
//!   balance                                                  → { spendableSat } of its wallet, less what it keeps for anchors
//!   sync                                                     → {}, once it has asked bitcoind for feerates and blocks
//!   invoice     { amountMsat, description, expirySeconds?, hold? } → { invoice }
//!   held        { hash }                                     → { held: boolean }, a payment that `hold` has kept
//!   settle, fail { hash }                                    → {}, of one that is held
//!   pay         { invoice, maxFeeMsat? }                     → { hash, preimage, feeMsat, ms }
//!   claimed                                                  → { hash: amountMsat }
//!   policy      { baseMsat, ppm, cltvDelta }                 → {}, of all channels that it has
//!   close       { channelId, force? }                        → {}

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::process;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ldk_node::bitcoin::hashes::{sha256, Hash};
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::bitcoin::Network;
use ldk_node::config::ChannelConfig;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::logger::{LogLevel, LogRecord, LogWriter};
use ldk_node::payment::{PaymentDirection, PaymentKind, PaymentStatus};
use ldk_node::{Builder, ChannelDetails, Event, Node, UserChannelId};
use serde_json::{json, Value};

const POLL: Duration = Duration::from_millis(50);
/// A payment is timed: its end is looked for more often.
const PAYMENT_POLL: Duration = Duration::from_millis(1);

type Outcome<T> = Result<T, String>;

/// A payment that is kept until the test says what becomes of it.
struct Held {
    preimage: PaymentPreimage,
    /// Once it is here.
    amount_msat: Option<u64>,
}

struct Process {
    node: Node,
    held: Mutex<HashMap<PaymentHash, Held>>,
    /// Why channels have ended.
    ends: Mutex<HashMap<u128, String>>,
}

fn main() {
    if let Err(message) = run() {
        eprintln!("{message}");
        process::exit(1);
    }
}

fn run() -> Outcome<()> {
    let options = options()?;
    let option = |name: &str| options.get(name).cloned().ok_or(format!("--{name} is needed"));
    let port: u16 = number(&option("listen")?)?;
    let name = option("name")?;
    let node = build(&name, port, &option("data")?, &option("rpc")?, &option("cookie")?)?;
    node.start().map_err(said)?;
    node.sync_wallets().map_err(said)?;
    let process = Arc::new(Process { node, held: Mutex::default(), ends: Mutex::default() });
    let watcher = Arc::clone(&process);
    thread::spawn(move || watcher.watch());
    let node_id = process.node.node_id().to_string();
    say(json!({ "event": "ready", "name": name, "nodeId": node_id, "port": port }));
    for line in io::stdin().lock().lines() {
        let line = line.map_err(said)?;
        let leader = Arc::clone(&process);
        // One waits for a channel while others are asked.
        thread::spawn(move || leader.answer(&line));
    }
    process.node.stop().map_err(said)
}

/// `--name value` each.
fn options() -> Outcome<HashMap<String, String>> {
    let mut options = HashMap::new();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or(format!("{word} is no option"))?;
        let value = words.next().ok_or(format!("--{name} needs a value"))?;
        options.insert(name.to_string(), value);
    }
    Ok(options)
}

fn build(name: &str, port: u16, data: &str, rpc: &str, cookie: &str) -> Outcome<Node> {
    let (host, rpc_port) = rpc
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .split_once(':')
        .ok_or("--rpc must be http://host:port")?;
    let login = fs::read_to_string(cookie).map_err(said)?;
    let (user, password) = login.trim().split_once(':').ok_or("this is no cookie of bitcoind's")?;
    let mut builder = Builder::new();
    builder
        .set_network(Network::Regtest)
        .set_storage_dir_path(data.to_string())
        .set_chain_source_bitcoind_rpc(
            host.to_string(),
            number(rpc_port)?,
            user.to_string(),
            password.to_string(),
        )
        .set_custom_logger(Arc::new(Log));
    // Both are needed for announced channels.
    builder
        .set_listening_addresses(vec![SocketAddress::TcpIpV4 { addr: [127, 0, 0, 1], port }])
        .map_err(said)?
        .set_node_alias(name.to_string())
        .map_err(said)?;
    builder.build().map_err(said)
}

/// What it logs goes to whoever leads it.
struct Log;

impl LogWriter for Log {
    fn log(&self, record: LogRecord) {
        if record.level < LogLevel::Info {
            return;
        }
        say(json!({ "event": "log", "line": format!("{} {}", record.level, record.args) }));
    }
}

impl Process {
    fn watch(&self) {
        loop {
            match self.node.wait_next_event() {
                Event::PaymentClaimable { payment_hash, claimable_amount_msat, .. } => {
                    if let Some(held) = self.held.lock().unwrap().get_mut(&payment_hash) {
                        held.amount_msat = Some(claimable_amount_msat);
                    }
                }
                Event::ChannelClosed { channel_id, user_channel_id, reason, .. } => {
                    let reason = reason.map_or("no reason".to_string(), |each| each.to_string());
                    say(json!({
                        "event": "channel-closed", "channelId": channel_id.to_string(), "reason": reason,
                    }));
                    self.ends.lock().unwrap().insert(user_channel_id.0, reason);
                }
                _ => {}
            }
            if let Err(error) = self.node.event_handled() {
                eprintln!("{error}");
                process::exit(1);
            }
        }
    }

    fn answer(&self, line: &str) {
        let command: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        let id = &command["id"];
        match self.obey(&command) {
            Ok(result) => say(json!({ "id": id, "result": result })),
            Err(message) => {
                say(json!({ "id": id, "error": { "code": "failed", "message": message } }))
            }
        }
    }

    fn obey(&self, command: &Value) -> Outcome<Value> {
        match text(command, "command")? {
            "connect" => {
                let (id, address) = peer(command)?;
                self.node.connect(id, address, true).map_err(said)?;
                Ok(json!({}))
            }
            "open" => self.open(command),
            "channels" => Ok(self.node.list_channels().iter().map(shown).collect()),
            "address" => {
                let address = self.node.onchain_payment().new_address().map_err(said)?;
                Ok(json!({ "address": address.to_string() }))
            }
            "balance" => {
                Ok(json!({ "spendableSat": self.node.list_balances().spendable_onchain_balance_sats }))
            }
            "sync" => {
                self.node.sync_wallets().map_err(said)?;
                Ok(json!({}))
            }
            "invoice" => self.invoice(command),
            "held" => {
                let held = self.held.lock().unwrap();
                let here = held.get(&hash(command)?).is_some_and(|each| each.amount_msat.is_some());
                Ok(json!({ "held": here }))
            }
            "settle" => {
                let hash = hash(command)?;
                let (held, amount_msat) = self.take_held(&hash)?;
                let payments = self.node.bolt11_payment();
                payments.claim_for_hash(hash, amount_msat, held.preimage).map_err(said)?;
                Ok(json!({}))
            }
            "fail" => {
                let hash = hash(command)?;
                self.take_held(&hash)?;
                self.node.bolt11_payment().fail_for_hash(hash).map_err(said)?;
                Ok(json!({}))
            }
            "pay" => self.pay(command),
            "claimed" => Ok(self.claimed()),
            "policy" => self.set_policy(command),
            "close" => self.close(command),
            other => Err(format!("there is no command {other}")),
        }
    }

    // ── channels ────────────────────────────────────────────────────────────────────────────────────────

    fn open(&self, command: &Value) -> Outcome<Value> {
        let (id, address) = peer(command)?;
        let sat = whole(command, "sat")?;
        let push_msat = command["pushSat"].as_u64().map(|sat| sat * 1000);
        let opened = if command["announced"] == true {
            self.node.open_announced_channel(id, address, sat, push_msat, None)
        } else {
            self.node.open_channel(id, address, sat, push_msat, None)
        };
        let UserChannelId(key) = opened.map_err(said)?;
        loop {
            let channels = self.node.list_channels();
            if let Some(channel) = channels.iter().find(|each| each.user_channel_id.0 == key) {
                if channel.is_usable {
                    return Ok(shown(channel));
                }
            }
            if let Some(reason) = self.ends.lock().unwrap().get(&key) {
                return Err(format!("the channel ended before it could be used: {reason}"));
            }
            thread::sleep(POLL);
        }
    }

    fn set_policy(&self, command: &Value) -> Outcome<Value> {
        let small = |field| u32::try_from(whole(command, field)?).map_err(said);
        let cltv_expiry_delta = u16::try_from(whole(command, "cltvDelta")?).map_err(said)?;
        for channel in self.node.list_channels() {
            let config = ChannelConfig {
                forwarding_fee_base_msat: small("baseMsat")?,
                forwarding_fee_proportional_millionths: small("ppm")?,
                cltv_expiry_delta,
                ..channel.config
            };
            let peer = channel.counterparty_node_id;
            self.node.update_channel_config(&channel.user_channel_id, peer, config).map_err(said)?;
        }
        Ok(json!({}))
    }

    fn close(&self, command: &Value) -> Outcome<Value> {
        let wanted = text(command, "channelId")?;
        let channels = self.node.list_channels();
        let channel = channels
            .iter()
            .find(|each| each.channel_id.to_string() == wanted)
            .ok_or(format!("there is no channel {wanted}"))?;
        let (key, peer) = (&channel.user_channel_id, channel.counterparty_node_id);
        if command["force"] == true {
            self.node.force_close_channel(key, peer, None).map_err(said)?;
        } else {
            self.node.close_channel(key, peer).map_err(said)?;
        }
        Ok(json!({}))
    }

    // ── payments ────────────────────────────────────────────────────────────────────────────────────────

    fn invoice(&self, command: &Value) -> Outcome<Value> {
        let amount_msat = whole(command, "amountMsat")?;
        let description = Description::new(text(command, "description")?.to_string()).map_err(said)?;
        let description = Bolt11InvoiceDescription::Direct(description);
        let expiry_seconds = command["expirySeconds"].as_u64().unwrap_or(3600);
        let expiry_seconds = u32::try_from(expiry_seconds).map_err(said)?;
        let payments = self.node.bolt11_payment();
        let invoice = if command["hold"] == true {
            let preimage = PaymentPreimage(random()?);
            let hash = PaymentHash(sha256::Hash::hash(&preimage.0).to_byte_array());
            self.held.lock().unwrap().insert(hash, Held { preimage, amount_msat: None });
            payments.receive_for_hash(amount_msat, &description, expiry_seconds, hash)
        } else {
            payments.receive(amount_msat, &description, expiry_seconds)
        };
        Ok(json!({ "invoice": invoice.map_err(said)?.to_string() }))
    }

    fn take_held(&self, hash: &PaymentHash) -> Outcome<(Held, u64)> {
        let mut all = self.held.lock().unwrap();
        let amount_msat = all.get(hash).and_then(|each| each.amount_msat);
        let amount_msat = amount_msat.ok_or("no such payment is held")?;
        Ok((all.remove(hash).unwrap(), amount_msat))
    }

    fn pay(&self, command: &Value) -> Outcome<Value> {
        let invoice = Bolt11Invoice::from_str(text(command, "invoice")?).map_err(said)?;
        let limits = RouteParametersConfig {
            max_total_routing_fee_msat: Some(command["maxFeeMsat"].as_u64().unwrap_or(100_000)),
            ..Default::default()
        };
        let begin = Instant::now();
        let id = self.node.bolt11_payment().send(&invoice, Some(limits)).map_err(said)?;
        loop {
            let payment = self.node.payment(&id).ok_or("the payment is forgotten")?;
            match (payment.status, &payment.kind) {
                (PaymentStatus::Succeeded, PaymentKind::Bolt11 { hash, preimage: Some(preimage), .. }) => {
                    return Ok(json!({
                        "hash": hash.to_string(),
                        "preimage": preimage.to_string(),
                        "feeMsat": payment.fee_paid_msat.unwrap_or(0),
                        "ms": begin.elapsed().as_secs_f64() * 1000.0,
                    }));
                }
                (PaymentStatus::Failed, _) => return Err("the payment failed".to_string()),
                _ => thread::sleep(PAYMENT_POLL),
            }
        }
    }

    /// What has arrived for good.
    fn claimed(&self) -> Value {
        let arrived = self.node.list_payments_with_filter(|each| {
            each.direction == PaymentDirection::Inbound && each.status == PaymentStatus::Succeeded
        });
        let amounts = arrived.into_iter().filter_map(|each| match each.kind {
            PaymentKind::Bolt11 { hash, .. } => Some((hash.to_string(), json!(each.amount_msat))),
            _ => None,
        });
        Value::Object(amounts.collect())
    }
}

fn shown(channel: &ChannelDetails) -> Value {
    json!({
        "channelId": channel.channel_id.to_string(),
        "peer": channel.counterparty_node_id.to_string(),
        "sat": channel.channel_value_sats,
        "ready": channel.is_channel_ready,
        "usable": channel.is_usable,
        "announced": channel.is_announced,
        "outboundMsat": channel.outbound_capacity_msat,
        "inboundMsat": channel.inbound_capacity_msat,
        "feeratePerKw": channel.feerate_sat_per_1000_weight,
        "funding": channel.funding_txo.map(|each| each.to_string()),
    })
}

// ── what is said and asked ──────────────────────────────────────────────────────────────────────────────

fn say(line: Value) {
    println!("{line}");
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn text<'a>(command: &'a Value, field: &str) -> Outcome<&'a str> {
    command[field].as_str().ok_or(format!("{field} must be a text"))
}

fn whole(command: &Value, field: &str) -> Outcome<u64> {
    command[field].as_u64().ok_or(format!("{field} must be a whole number"))
}

fn number<T: FromStr>(word: &str) -> Outcome<T> {
    word.parse().map_err(|_| format!("{word} is not a number that is wanted here"))
}

fn peer(command: &Value) -> Outcome<(PublicKey, SocketAddress)> {
    let (id, address) = text(command, "peer")?.split_once('@').ok_or("peer must be id@host:port")?;
    let address = SocketAddress::from_str(address).map_err(|_| "peer must be id@host:port")?;
    Ok((PublicKey::from_str(id).map_err(said)?, address))
}

fn hash(command: &Value) -> Outcome<PaymentHash> {
    let hash = sha256::Hash::from_str(text(command, "hash")?).map_err(said)?;
    Ok(PaymentHash(hash.to_byte_array()))
}

fn random() -> Outcome<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(said)?;
    Ok(bytes)
}
