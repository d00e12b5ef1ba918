//! Networks as configuration writes them: `10.1.2.0/24`; a single address may stand without its `/32`.
//!
//! An IPv4 peer of a socket for both kinds shows as `::ffff:a.b.c.d` and is taken for `a.b.c.d`; so is a network that is written so.
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use std::net::IpAddr;

/// For `#[serde(deserialize_with)]`. Each network is read by itself, so that each wrong one is known by its index.
///
/// # Errors
/// A text that is no network, with what to write instead.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|network| network.0).collect())
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let single = text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or(single).map_err(|_| {
            format!("`{text}` is no network: write an address with its prefix, such as \"10.1.2.0/24\"")
        })?;
        Ok(Self(canonical(network)))
    }
}

/// The IPv4 network that an IPv4-mapped one (RFC 4291 2.5.5.2) is; any other as it is.
fn canonical(network: IpNet) -> IpNet {
    let prefix = network.prefix_len().checked_sub(MAPPED_BITS);
    match (network.addr(), network.addr().to_canonical(), prefix) {
        (IpAddr::V6(_), IpAddr::V4(address), Some(prefix)) => Ipv4Net::new(address, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

/// Bits of `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_network_is_the_ipv4_network_that_it_means() {
        for (written, read) in [
            ("::ffff:127.0.0.1/128", "127.0.0.1/32"),
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("10.1.2.0/24", "10.1.2.0/24"),
            ("fe80::/10", "fe80::/10"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ] {
            let network = Network::try_from(written.to_owned()).unwrap().0;
            assert_eq!(network.to_string(), read, "{written}");
        }
        assert!(Network::try_from("10.1.2.0/33".to_owned()).is_err());
    }
}
