use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::shown;

/// An IPv4 or IPv6 network in canonical form: no host bits, and never an IPv4-mapped IPv6 network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

/// A text that is not a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Neither an address nor an address with a prefix length.
    #[error("'{0}' is not a network: expected an address or CIDR such as 203.0.113.0/24 or 2001:db8::/32")]
    Syntax(String),
    /// An IPv4-mapped network that would also cover addresses that are not IPv4.
    #[error("'{0}' is an IPv4-mapped network shorter than /96: it would cover more than IPv4; write the IPv4 network itself")]
    ShortMapped(String),
}

/// The address that is compared: an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2) is the IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Network {
    /// The network that usage is remembered by: the /24 of a canonical IPv4 address, the /48 of an IPv6 one.
    pub fn around(address: IpAddr) -> Network {
        Network(match address {
            IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, 24).trunc()),
            IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, 48).trunc()),
        })
    }

    /// Whether the network holds this canonical address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether some address is in both.
    pub fn meets(&self, other: Network) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The network as `ipnet` has it.
    pub fn net(&self) -> IpNet {
        self.0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads an address (the network of that one host) or CIDR. Host bits are cleared.
    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let error = || NetworkError::Syntax(shown(text));
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| error())?),
        };
        let mapped = match net.addr() {
            IpAddr::V6(v6) => v6.to_ipv4_mapped(),
            IpAddr::V4(_) => None,
        };
        let Some(v4) = mapped else { return Ok(Network(net.trunc())) };
        let length = net.prefix_len().checked_sub(96).ok_or_else(|| NetworkError::ShortMapped(text.to_owned()))?;
        Ok(Network(IpNet::V4(Ipv4Net::new_assert(v4, length).trunc())))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// In records: the prefix length, the family (4 or 6), then the address's 4 or 16 bytes.
impl Encode for Network {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.prefix_len().encode(encoder)?;
        match self.0.addr() {
            IpAddr::V4(v4) => (4u8, v4.octets()).encode(encoder),
            IpAddr::V6(v6) => (6u8, v6.octets()).encode(encoder),
        }
    }
}

impl<Context> Decode<Context> for Network {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Network, DecodeError> {
        let length = u8::decode(decoder)?;
        let net = match u8::decode(decoder)? {
            4 => Ipv4Net::new(Ipv4Addr::from(<[u8; 4]>::decode(decoder)?), length).map(IpNet::V4),
            6 => Ipv6Net::new(Ipv6Addr::from(<[u8; 16]>::decode(decoder)?), length).map(IpNet::V6),
            _ => return Err(DecodeError::Other("a network is of family 4 or 6")),
        };
        let net = net.map_err(|_| DecodeError::Other("a network's prefix is longer than its address"))?;
        let is_mapped = matches!(net, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
        if net != net.trunc() || is_mapped { Err(DecodeError::Other("a network is not in its canonical form")) } else { Ok(Network(net)) }
    }
}

bincode::impl_borrow_decode!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_canonical() {
        for (given, kept) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.1.2.0/120", "10.1.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(given.parse::<Network>().unwrap().to_string(), kept, "{given}");
        }
    }

    #[test]
    fn mapped_networks_that_cover_more_than_ipv4_are_refused() {
        for bad in ["::ffff:10.0.0.0/95", "::ffff:10.0.0.0/8", "::FFFF:0:0/80", "::ffff:0:0/0"] {
            assert!(matches!(bad.parse::<Network>(), Err(NetworkError::ShortMapped(_))), "{bad}");
        }
        for bad in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "example.org", "10.0.0.0 /8"] {
            assert!(matches!(bad.parse::<Network>(), Err(NetworkError::Syntax(_))), "{bad}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let net: Network = "10.0.0.0/8".parse().unwrap();
        assert!(net.contains(canonical("::ffff:10.9.9.9".parse().unwrap())));
        assert!(!net.contains(canonical("::10.9.9.9".parse().unwrap())));
    }
}
