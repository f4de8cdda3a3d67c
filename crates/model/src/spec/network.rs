//! Network cards and what they are plugged into.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::yes;
use crate::error::ErrorBody;
use crate::ids::DeviceId;

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nic {
    /// Its id in the machine.
    pub id: DeviceId,
    /// Its hardware address.
    pub mac: MacAddr,
    /// What the guest sees.
    #[serde(default)]
    pub model: NicModel,
    /// Whether the cable is in.
    #[serde(default = "yes")]
    pub link: bool,
    /// What it is plugged into.
    pub network: NetworkBackend,
}

impl Nic {
    /// A virtio card with its cable in.
    #[must_use]
    pub const fn new(id: DeviceId, mac: MacAddr, network: NetworkBackend) -> Self {
        Self { id, mac, model: NicModel::Virtio, link: true, network }
    }
}

/// What a network card is to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum NicModel {
    /// virtio-net: the fastest.
    #[default]
    Virtio,
    /// Intel 82574L: most guests have its driver.
    E1000e,
}

/// What a network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum NetworkBackend {
    /// User-mode NAT, no root.
    User {
        /// Which program does it.
        #[serde(default)]
        stack: UserStack,
        /// Host ports that lead into the guest.
        forwards: Vec<PortForward>,
    },
    /// Nothing.
    None,
}

/// What does user-mode NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum UserStack {
    /// libslirp, inside QEMU.
    #[default]
    Slirp,
    /// passt, beside QEMU: faster, the guest has the host's addresses, IPv6. Needs QEMU 7.2 and the package passt.
    Passt,
}

impl NetworkBackend {
    /// User-mode NAT inside QEMU with these forwards.
    #[must_use]
    pub const fn user(forwards: Vec<PortForward>) -> Self {
        Self::User { stack: UserStack::Slirp, forwards }
    }

    /// Its port forwards.
    #[must_use]
    pub fn forwards(&self) -> &[PortForward] {
        match self {
            Self::User { forwards, .. } => forwards,
            Self::None => &[],
        }
    }
}

/// Transport protocol of a forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A host port that leads to a port of the guest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortForward {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's address to bind; loopback by default.
    #[serde(default = "loopback")]
    #[schemars(with = "String")]
    #[ts(type = "string")]
    pub host_address: Ipv4Addr,
    /// The host's port, 1024 to 65535 (an ordinary user cannot bind below).
    pub host_port: u16,
    /// The guest's port, 1 to 65535.
    pub guest_port: u16,
}

const fn loopback() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

impl PortForward {
    /// A TCP forward from loopback.
    #[must_use]
    pub const fn tcp(host_port: u16, guest_port: u16) -> Self {
        Self { protocol: Protocol::Tcp, host_address: Ipv4Addr::LOCALHOST, host_port, guest_port }
    }

    /// Whether both cannot be bound at the same time.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && (self.host_address == other.host_address
                || self.host_address.is_unspecified()
                || other.host_address.is_unspecified())
    }
}

impl std::str::FromStr for PortForward {
    type Err = ErrorBody;

    /// Reads the command line's `HOSTPORT:GUESTPORT[/udp]`, bound to loopback.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            ErrorBody::invalid("forward", format!("{text:?} is not a port forward"))
                .with_hint("Write HOSTPORT:GUESTPORT, or HOSTPORT:GUESTPORT/udp.")
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some(_) => return Err(wrong()),
            None => (text, Protocol::Tcp),
        };
        let (host, guest) = ports.split_once(':').ok_or_else(wrong)?;
        let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        Ok(Self {
            protocol,
            host_address: Ipv4Addr::LOCALHOST,
            host_port: port(host)?,
            guest_port: port(guest)?,
        })
    }
}

/// An Ethernet hardware address; unicast.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(try_from = "String", into = "String")]
#[ts(type = "string")]
#[schemars(with = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// An address in QEMU's own range (52:54:00) with the given tail.
    #[must_use]
    pub const fn qemu(tail: [u8; 3]) -> Self {
        Self([0x52, 0x54, 0x00, tail[0], tail[1], tail[2]])
    }
}

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("{text:?} is not a unicast MAC address like 52:54:00:12:34:56");
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let two_digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(two_digits).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}
