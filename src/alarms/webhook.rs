//! Webhooks: one JSON POST over HTTP or HTTPS, to exactly the URL that the site has configured; no redirect is followed.
//!
//! The body can be signed (`X-Waystation-Signature: sha256=…`, HMAC-SHA256 of the body in hexadecimal); a header line with a secret
//! goes over HTTPS, or to this machine, only. The only door to aws-lc-rs's own interface, and one of two to hyper.
use super::config::Webhook;
use super::outbox::{Letter, Refusal};
use super::secret;
use crate::sender::tls;
use aws_lc_rs::hmac;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;

/// Posts messages as configured. Cheap to clone.
#[derive(Clone)]
pub(super) struct Poster {
    config: Webhook,
}

/// A configured URL, taken apart.
struct Target {
    secure: bool,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
    authority: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "is no URL".to_owned())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user name in it: put a secret into `header_file`".to_owned());
        }
        Ok(Self {
            secure,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authority: authority.as_str().to_owned(),
        })
    }

    fn is_local(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl Poster {
    pub(super) fn new(config: Webhook) -> Self {
        Self { config }
    }

    /// One attempt; any 2xx is a success.
    ///
    /// # Errors
    /// Why it was not taken, in words for the operator.
    pub(super) async fn send(&self, letter: &Letter) -> Result<(), Refusal> {
        let within = self.config.timeout.0;
        let done = tokio::time::timeout(within, self.attempt(letter, within)).await;
        done.unwrap_or_else(|_| Err("the webhook did not answer in time".to_owned().into()))
    }

    async fn attempt(&self, letter: &Letter, within: Duration) -> Result<(), Refusal> {
        let target = Target::parse(&self.config.url)?;
        let (config, body, name) = (self.config.clone(), letter.json.to_string(), letter.name());
        let making = tokio::task::spawn_blocking(move || {
            let request = request(&config, &Target::parse(&config.url)?, body, &name)?;
            Ok::<_, String>((request, connector(&config)?))
        });
        let (request, connector) = making.await.map_err(|_| "the attempt was cut off".to_owned())??;
        let stream = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        match connector {
            None => exchange(TokioIo::new(stream), request).await,
            Some(connector) => {
                let stream = connector.connect(&target.host, stream, within).await;
                exchange(TokioIo::new(stream.map_err(|error| error.to_string())?), request).await
            }
        }
    }
}

/// TLS to the target, when it is to be had. Blocking: it reads files.
fn connector(config: &Webhook) -> Result<Option<tls::Connector>, String> {
    if !Target::parse(&config.url)?.secure {
        return Ok(None);
    }
    let trust = tls::Config {
        ca: config.ca.clone().into(),
        ..tls::Config::default()
    };
    tls::connector(&trust).map(Some).map_err(|error| error.to_string())
}

fn request(config: &Webhook, target: &Target, body: String, name: &str) -> Result<Request<String>, String> {
    let mut builder = Request::post(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, concat!("waystation/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        // The same for every attempt: whoever takes it can tell a repeat.
        .header("x-waystation-message", name);
    if let Some(file) = &config.header_file {
        let (key, value) = header(file)?;
        builder = builder.header(key, value);
    }
    if let Some(file) = &config.hmac_file {
        let signature = signature(secret::read(file)?.as_bytes(), body.as_bytes());
        builder = builder.header("x-waystation-signature", format!("sha256={signature}"));
    }
    builder.body(body).map_err(|error| error.to_string())
}

/// The secret header line of a file.
fn header(file: &Path) -> Result<(HeaderName, HeaderValue), String> {
    let line = secret::read(file)?;
    let wrong = || {
        format!(
            "{} must hold one header line, as `Authorization: Bearer …`",
            file.display()
        )
    };
    let (key, value) = line.split_once(':').ok_or_else(wrong)?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((
        HeaderName::from_bytes(key.trim().as_bytes()).map_err(|_| wrong())?,
        value,
    ))
}

/// HMAC-SHA256 in hexadecimal.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
    let mut text = String::with_capacity(64);
    for byte in tag.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Request and answer; the connection lives no longer.
async fn exchange<I>(io: I, request: Request<String>) -> Result<(), Refusal>
where
    I: Read + Write + Unpin,
{
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
    let asked = sender.send_request(request);
    tokio::pin!(connection, asked);
    let response = tokio::select! {
        response = &mut asked => response.map_err(broken)?,
        ended = &mut connection => {
            ended.map_err(broken)?;
            // It may have ended with the answer.
            asked.await.map_err(broken)?
        }
    };
    answered(response.status())
}

/// What an answer means: one about the request itself is of this message, and for good (RFC 9110, 15.5); 408 and 429 ask to come again.
fn answered(status: StatusCode) -> Result<(), Refusal> {
    if status.is_success() {
        return Ok(());
    }
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    Err(Refusal {
        words: format!("it was answered {status}"),
        for_good: status.is_client_error() && !later.contains(&status),
        left: Vec::new(),
    })
}

/// What is wrong with the configuration, by key. Reads the files.
pub(super) fn faults(config: &Webhook) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let target = Target::parse(&config.url).map_err(|words| found.push(("url", words)));
    if config.timeout.0.is_zero() {
        found.push(("timeout", "is 0: nothing could be sent".to_owned()));
    }
    if let Some(file) = &config.header_file {
        found.extend(header(file).err().map(|words| ("header_file", words)));
        if target.as_ref().is_ok_and(|target| !target.secure && !target.is_local()) {
            let words = "is a secret, and `url` is plain http: use https";
            found.push(("header_file", words.to_owned()));
        }
    }
    if let Some(file) = &config.hmac_file {
        found.extend(secret::read(file).err().map(|words| ("hmac_file", words)));
    }
    if target.is_ok() {
        found.extend(connector(config).err().map(|words| ("ca", words)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn an_answer_about_the_message_is_for_good() {
        assert_eq!(answered(StatusCode::NO_CONTENT), Ok(()));
        for (code, for_good) in [
            (400, true),
            (404, true),
            (422, true),
            (408, false),
            (429, false),
            (302, false),
            (503, false),
        ] {
            let refusal = answered(StatusCode::from_u16(code).unwrap()).unwrap_err();
            assert_eq!(refusal.for_good, for_good, "{code}");
            assert!(refusal.words.contains(&code.to_string()), "{}", refusal.words);
        }
    }

    #[test]
    fn urls_are_taken_apart_and_secrets_in_them_refused() {
        let target = Target::parse("https://hooks.example:8443/a/b?c=d").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.secure),
            ("hooks.example", 8443, true)
        );
        assert_eq!(
            (target.path.as_str(), target.authority.as_str()),
            ("/a/b?c=d", "hooks.example:8443")
        );
        assert!(Target::parse("http://[::1]/x").unwrap().is_local());
        for wrong in ["", "ftp://x/", "/path", "https://user:pass@x/", "https://"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
