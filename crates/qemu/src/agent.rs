//! The guest agent's protocol over its unix socket.
//!
//! Nothing on that line can be trusted: the guest writes what it likes, an agent may be absent, start late, or answer a question
//! of somebody before us. So every connection begins with `guest-sync-delimited`, every answer has a length and a deadline, and a
//! connection on which a deadline passed is given up: [`AgentError`] after [`Agent::connect`] means *connect anew*.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};
use voidvm_model::vm::{GuestAddress, GuestInfo};
use voidvm_model::{Bytes, ErrorBody, ErrorCode};

use crate::qmp::wire::{Lines, Message};

/// How long one question may take; a healthy agent needs milliseconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read.
const ANSWER_MAX: usize = 1 << 20;
/// Addresses and interfaces beyond this are the guest's joke.
const ADDRESSES_MAX: usize = 256;

/// Why the guest agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket cannot be used, or the machine ended.
    #[error("the guest agent's line: {0}")]
    Io(#[from] io::Error),
    /// Nothing, or nothing in time: mostly, no agent is installed or the guest still boots.
    #[error("the guest agent does not answer")]
    Silent,
    /// The agent said no.
    #[error("the guest agent: {0}")]
    Refused(String),
    /// What it said is no answer.
    #[error("the guest agent answers in an unknown form")]
    Garbage,
}

impl AgentError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(ErrorCode::AgentUnavailable, "The guest agent does not answer.")
            .with_hint("Install and start qemu-guest-agent inside the guest.")
            .with_detail("reason", self.to_string())
    }
}

/// What a network interface of the guest has carried since it came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The guest's name of it.
    pub name: String,
    /// Into the guest.
    pub received: Bytes,
    /// Out of the guest.
    pub sent: Bytes,
}

/// The guest's network interfaces, loopback left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestNetwork {
    /// Their addresses.
    pub addresses: Vec<GuestAddress>,
    /// Their counters, of those that have some.
    pub counters: Vec<InterfaceCounters>,
}

/// A synchronised connection to a guest agent. One question at a time.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    lines: Lines,
}

impl Agent {
    /// Connects and makes sure that the next answer belongs to the next question.
    ///
    /// # Errors
    /// [`AgentError::Silent`] when no agent answers before `deadline`.
    pub async fn connect(path: &Path, deadline: Duration) -> Result<Self, AgentError> {
        let end = Instant::now() + deadline;
        let stream = timeout_at(end, UnixStream::connect(path)).await.map_err(|_| AgentError::Silent)??;
        let mut agent = Self { stream, lines: Lines::default() };
        timeout_at(end, agent.synchronise()).await.unwrap_or(Err(AgentError::Silent))?;
        Ok(agent)
    }

    /// The guest's host name, system and addresses, as far as its agent tells; each question it refuses is left unanswered.
    ///
    /// # Errors
    /// When it does not answer at all.
    pub async fn info(&mut self) -> Result<GuestInfo, AgentError> {
        let hostname = refused_is_none(self.host_name().await)?;
        let os = refused_is_none(self.os_info().await)?;
        let network = refused_is_none(self.network().await)?.unwrap_or_default();
        Ok(GuestInfo { agent: true, hostname, os, addresses: network.addresses })
    }

    /// The guest's host name.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn host_name(&mut self) -> Result<String, AgentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct HostName {
            host_name: String,
        }
        self.ask::<HostName>("guest-get-host-name", None).await.map(|answer| clean(&answer.host_name))
    }

    /// The guest's operating system in its own words (`Debian GNU/Linux 12 (bookworm)`).
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn os_info(&mut self) -> Result<String, AgentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct OsInfo {
            pretty_name: Option<String>,
            name: Option<String>,
            kernel_release: Option<String>,
        }
        let info: OsInfo = self.ask("guest-get-osinfo", None).await?;
        let name = info.pretty_name.or(info.name).or(info.kernel_release).ok_or(AgentError::Garbage)?;
        Ok(clean(&name))
    }

    /// The guest's network interfaces with their addresses and counters.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn network(&mut self) -> Result<GuestNetwork, AgentError> {
        let interfaces: Vec<Interface> = self.ask("guest-network-get-interfaces", None).await?;
        Ok(read_network(interfaces))
    }

    /// Asks the guest to power off. An agent that obeys does not answer, so silence is fine.
    ///
    /// # Errors
    /// When the agent refuses or the line is gone before the question was put.
    pub async fn shutdown(&mut self) -> Result<(), AgentError> {
        let question = json!({"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}});
        self.send(&question, &[]).await?;
        match timeout(Duration::from_secs(1), self.answer()).await {
            Ok(Err(AgentError::Refused(reason))) => Err(AgentError::Refused(reason)),
            _ => Ok(()),
        }
    }

    /// Puts any question of the agent's schema; its answer as it is.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn execute(&mut self, name: &str, arguments: Option<Value>) -> Result<Value, AgentError> {
        let mut question = json!({"execute": name});
        if let Some(arguments) = arguments {
            question["arguments"] = arguments;
        }
        let exchange = async {
            self.send(&question, &[]).await?;
            self.answer().await
        };
        timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or(Err(AgentError::Silent))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
        arguments: Option<Value>,
    ) -> Result<T, AgentError> {
        serde_json::from_value(self.execute(name, arguments).await?).map_err(|_| AgentError::Garbage)
    }

    /// The agent's own remedy for leftovers: a byte that is no Unicode resets its parser, and it sends the same byte before its
    /// answer, so everything before that is not for us.
    async fn synchronise(&mut self) -> Result<(), AgentError> {
        let number = uuid::Uuid::new_v4().as_u64_pair().0 >> 12;
        let question = json!({"execute": "guest-sync-delimited", "arguments": {"id": number}});
        self.send(&question, b"\xff").await?;
        loop {
            let line = self.line().await?;
            let Some(at) = line.iter().rposition(|byte| *byte == 0xff) else { continue };
            if let Message::Reply { outcome: Ok(answer), .. } = Message::decode(&line[at + 1..])
                && answer.as_u64() == Some(number)
            {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, question: &Value, before: &[u8]) -> io::Result<()> {
        let mut bytes = before.to_vec();
        bytes.extend_from_slice(question.to_string().as_bytes());
        bytes.push(b'\n');
        self.stream.write_all(&bytes).await
    }

    async fn answer(&mut self) -> Result<Value, AgentError> {
        loop {
            let line = self.line().await?;
            return match Message::decode(&line) {
                Message::Reply { outcome: Ok(answer), .. } => Ok(answer),
                Message::Reply { outcome: Err((_, words)), .. } => Err(AgentError::Refused(clean(&words))),
                _ if line.is_empty() => continue,
                _ => Err(AgentError::Garbage),
            };
        }
    }

    async fn line(&mut self) -> Result<Vec<u8>, AgentError> {
        let mut scratch = [0; 4096];
        loop {
            if let Some(line) = self.lines.next_line().map_err(|_| AgentError::Garbage)? {
                return Ok(line.to_vec());
            }
            if self.lines.held() > ANSWER_MAX {
                return Err(AgentError::Garbage);
            }
            match tokio::io::AsyncReadExt::read(&mut self.stream, &mut scratch).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => self.lines.push(&scratch[..count]),
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Interface {
    name: String,
    #[serde(default)]
    ip_addresses: Vec<Address>,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Address {
    ip_address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Statistics {
    rx_bytes: u64,
    tx_bytes: u64,
}

fn read_network(interfaces: Vec<Interface>) -> GuestNetwork {
    let mut network = GuestNetwork::default();
    for interface in interfaces.into_iter().take(ADDRESSES_MAX) {
        let name = clean(&interface.name);
        // An address is shown and linked to, so it has to be one.
        let addresses = interface.ip_addresses.iter().filter_map(|address| {
            address.ip_address.parse::<std::net::IpAddr>().ok().filter(|address| !address.is_loopback())
        });
        let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
        if name == "lo" || (addresses.is_empty() && !interface.ip_addresses.is_empty()) {
            continue;
        }
        network.addresses.extend(
            addresses
                .into_iter()
                .map(|address| GuestAddress { interface: name.clone(), address: address.to_string() }),
        );
        if let Some(statistics) = interface.statistics {
            network.counters.push(InterfaceCounters {
                name,
                received: Bytes(statistics.rx_bytes),
                sent: Bytes(statistics.tx_bytes),
            });
        }
    }
    network.addresses.truncate(ADDRESSES_MAX);
    network
}

fn refused_is_none<T>(answer: Result<T, AgentError>) -> Result<Option<T>, AgentError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(AgentError::Refused(_) | AgentError::Garbage) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The guest's words, safe to show: one line of a reasonable length.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
