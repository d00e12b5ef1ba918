//! Networks as configuration writes them: `10.1.2.0/24`; a single address may stand without its `/32`.
use ipnet::IpNet;
use serde::Deserialize;

/// For `#[serde(deserialize_with)]`.
///
/// # Errors
/// A text that is no network, with what to write instead.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: String| {
        let single = text.parse::<std::net::IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or(single).map_err(|_| {
            let message = format!("`{text}` is no network: write an address with its prefix, such as \"10.1.2.0/24\"");
            serde::de::Error::custom(message)
        })
    };
    Vec::<String>::deserialize(deserializer)?
        .into_iter()
        .map(network)
        .collect()
}
