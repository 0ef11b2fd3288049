//! Requests to a registry: plain or encrypted, redirects, time limits and repetition.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE,
    RETRY_AFTER,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};

use crate::oci::source::SourceError;

const USER_AGENT: &str = concat!("strata/", env!("CARGO_PKG_VERSION"));
const MOST_REDIRECTS: usize = 10;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Hosts (with their port, as references name them) that may be spoken to without encryption.
    /// Loopback addresses always may.
    pub insecure: BTreeSet<String>,
    /// More certificate authorities, in PEM form, beside those of the system.
    pub authorities: Vec<Vec<u8>>,
    /// The longest time to set up a connection.
    pub connect_timeout: Duration,
    /// The longest time without a byte.
    pub stall_timeout: Duration,
    /// The least bytes that a stream must bring in each [`RegistryOptions::least_window`], unless it ends.
    pub least_bytes: u64,
    /// The longest time in which it may bring no more.
    pub least_window: Duration,
    /// The longest time that a registry may take to answer when it was sent something.
    pub answer_timeout: Duration,
    /// How often a request is tried before it counts as failed.
    pub attempts: u32,
    /// The pause after the first failure; doubled after each further one.
    pub first_pause: Duration,
    /// The longest pause, whatever the registry asks for.
    pub longest_pause: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            authorities: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            least_bytes: 256 << 10,
            least_window: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(300),
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// The HTTP clients, shared by all pulls of a process: they keep connections open.
#[derive(Clone, Debug)]
pub struct Transport(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: RegistryOptions,
    plain: OnceLock<Result<Client, String>>,
    encrypted: OnceLock<Result<Client, String>>,
    /// For uploads, whose answers take their time: without a limit between two bytes.
    patient_plain: OnceLock<Result<Client, String>>,
    patient_encrypted: OnceLock<Result<Client, String>>,
}

/// One request, before redirects.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// `GET` when nothing else is said; `POST` with a form.
    pub(super) method: Method,
    pub(super) accept: Option<&'static str>,
    pub(super) authorization: Option<HeaderValue>,
    /// Only the bytes from here on.
    pub(super) from: Option<u64>,
    /// A form to be posted.
    pub(super) form: Option<String>,
    /// Bytes to be sent, and what they are. The answer may then take its time.
    pub(super) body: Option<(String, Bytes)>,
}

impl Transport {
    /// Sets nothing up yet: that happens at the first request, and encryption only when it is used.
    pub fn new(options: RegistryOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            plain: OnceLock::new(),
            encrypted: OnceLock::new(),
            patient_plain: OnceLock::new(),
            patient_encrypted: OnceLock::new(),
        }))
    }

    pub(super) fn options(&self) -> &RegistryOptions {
        &self.0.options
    }

    /// True when `host` may be spoken to without encryption.
    pub(super) fn is_plain_allowed(&self, host: &str) -> bool {
        self.0.options.insecure.contains(host) || is_loopback(host)
    }

    fn client(&self, url: &Url, is_patient: bool) -> Result<&Client, SourceError> {
        let shared = &self.0;
        let is_encrypted = url.scheme() != "http";
        let slot = match (is_encrypted, is_patient) {
            (false, false) => &shared.plain,
            (true, false) => &shared.encrypted,
            (false, true) => &shared.patient_plain,
            (true, true) => &shared.patient_encrypted,
        };
        let client = slot.get_or_init(|| {
            build(&shared.options, is_encrypted, is_patient).map_err(|error| chain(&error))
        });
        client.as_ref().map_err(|detail| {
            SourceError::unsupported(format_args!("encryption to {}", authority(url)), detail)
        })
    }

    /// Begins a request that sends a stream; it is for the caller to watch over it.
    pub(super) fn streaming(
        &self,
        method: Method,
        url: &Url,
    ) -> Result<RequestBuilder, SourceError> {
        Ok(self.client(url, true)?.request(method, url.clone()))
    }

    /// Sends a request, following redirects, and repeats it while the failure may pass.
    ///
    /// Any final answer is a success here, whatever its status. `what` names the wanted thing.
    pub(super) async fn send(
        &self,
        url: &Url,
        request: &Request,
        what: &str,
    ) -> Result<Response, SourceError> {
        let options = self.options();
        let mut failures = 0;
        loop {
            let (detail, asked) = match self.follow(url, request).await {
                Ok(response) if !may_pass(response.status()) => return Ok(response),
                Ok(response) => (
                    format!("the registry answered {}", response.status()),
                    retry_after(response.headers()),
                ),
                Err(SourceError::Unavailable { detail, .. }) => (detail, None),
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures >= options.attempts.max(1) {
                return Err(SourceError::unavailable(what, detail));
            }
            tracing::debug!(what, detail, failures, "request failed, trying again");
            tokio::time::sleep(options.pause(failures, asked)).await;
        }
    }

    /// Sends a request once and follows redirects.
    async fn follow(&self, url: &Url, request: &Request) -> Result<Response, SourceError> {
        let mut url = url.clone();
        let mut request = request.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send_once(&url, &request).await?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED
            {
                return Ok(response);
            }
            let next = redirect_target(&url, &response)?;
            self.check_redirect(&url, &next)?;
            let keeps_method = matches!(response.status().as_u16(), 307 | 308);
            if !keeps_method && !matches!(request.method, Method::GET | Method::HEAD) {
                return Err(SourceError::unsupported(
                    format_args!("the redirect of an upload to {}", authority(&next)),
                    format_args!("the registry answered {}", response.status()),
                ));
            }
            if next.origin() != url.origin() {
                request.authorization = None;
                if request.form.is_some() {
                    return Err(SourceError::unsupported(
                        format_args!("the redirect of a login to {}", authority(&next)),
                        "the login stays with the host that it is for",
                    ));
                }
            }
            url = next;
        }
        Err(SourceError::unavailable(
            authority(&url),
            format_args!("more than {MOST_REDIRECTS} redirects"),
        ))
    }

    /// Refuses to leave encryption, and to speak plainly to a stranger.
    fn check_redirect(&self, from: &Url, to: &Url) -> Result<(), SourceError> {
        let is_fine = match to.scheme() {
            "https" => true,
            "http" => from.scheme() == "http" && self.is_plain_allowed(&authority(to)),
            _ => false,
        };
        if is_fine {
            return Ok(());
        }
        Err(SourceError::unsupported(
            format_args!("the redirect to {}://{}", to.scheme(), authority(to)),
            "it is not encrypted",
        ))
    }

    async fn send_once(&self, url: &Url, request: &Request) -> Result<Response, SourceError> {
        let method = match request.form {
            Some(_) => Method::POST,
            None => request.method.clone(),
        };
        let is_patient = request.body.is_some();
        let mut builder = self.client(url, is_patient)?.request(method, url.clone());
        if let Some(accept) = request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(from) = request.from {
            builder = builder.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(form) = &request.form {
            builder = builder
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.clone());
        }
        if let Some((kind, bytes)) = &request.body {
            builder = builder
                .timeout(self.options().answer_timeout)
                .header(CONTENT_LENGTH, bytes.len())
                .header(CONTENT_TYPE, kind)
                .body(bytes.clone());
        }
        builder
            .send()
            .await
            .map_err(|error| SourceError::unavailable(authority(url), chain(&error.without_url())))
    }
}

impl RegistryOptions {
    /// How long to wait after so many failures in a row.
    pub(super) fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let factor = 1 << failures.saturating_sub(1).min(10);
        asked
            .unwrap_or(self.first_pause * factor)
            .min(self.longest_pause)
    }
}

fn build(
    options: &RegistryOptions,
    encrypted: bool,
    is_patient: bool,
) -> Result<Client, reqwest::Error> {
    // A second installation fails, and the first one serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(options.connect_timeout);
    if !is_patient {
        builder = builder.read_timeout(options.stall_timeout);
    }
    if encrypted {
        let mut authorities = Vec::new();
        for pem in &options.authorities {
            authorities.extend(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        builder = match has_system_authorities() {
            true => builder.tls_certs_merge(authorities),
            // An empty root, as in our own image.
            false => builder.tls_certs_only(authorities.into_iter().chain(built_in_authorities())),
        };
    } else {
        // Without the system's certificates, which need not exist.
        builder = builder.no_proxy().tls_certs_only([]);
    }
    builder.build()
}

/// True when the system has certificate authorities; the variables `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` say where, as everywhere.
fn has_system_authorities() -> bool {
    !rustls_native_certs::load_native_certs().certs.is_empty()
}

/// Mozilla's certificate authorities, as of this build.
fn built_in_authorities() -> impl Iterator<Item = reqwest::Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| reqwest::Certificate::from_der(der).ok())
}

/// The error and its sources as one text: reqwest's own says little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

pub(super) fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn redirect_target(from: &Url, response: &Response) -> Result<Url, SourceError> {
    response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|target| from.join(target).ok())
        .ok_or_else(|| {
            SourceError::unavailable(authority(from), "it redirects without a usable address")
        })
}

/// Host and port as a reference would name them.
pub(super) fn authority(url: &Url) -> String {
    struct Authority<'a>(&'a Url);
    impl fmt::Display for Authority<'_> {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0.host_str().unwrap_or(""))?;
            match self.0.port() {
                Some(port) => write!(formatter, ":{port}"),
                None => Ok(()),
            }
        }
    }
    Authority(url).to_string()
}

/// True for `localhost`, 127.0.0.0/8 and `::1`, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_named_hosts_are_spoken_to_plainly() {
        let options = RegistryOptions {
            insecure: ["registry.lan:5000".to_owned()].into(),
            ..RegistryOptions::default()
        };
        let transport = Transport::new(options);
        for host in [
            "localhost",
            "localhost:5000",
            "127.9.9.9:1",
            "[::1]:5",
            "registry.lan:5000",
        ] {
            assert!(transport.is_plain_allowed(host), "{host}");
        }
        for host in [
            "registry.lan",
            "128.0.0.1",
            "localhost.x.io",
            "127.0.0.1.x.io",
            "[::2]",
        ] {
            assert!(!transport.is_plain_allowed(host), "{host}");
        }
    }

    #[test]
    fn encryption_is_set_up_when_it_is_used_and_only_then() {
        let transport = Transport::new(RegistryOptions {
            authorities: vec![
                b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_vec(),
            ],
            ..RegistryOptions::default()
        });
        let client = |url: &str| transport.client(&Url::parse(url).unwrap(), false).map(drop);
        client("http://127.0.0.1:1").unwrap();
        let error = client("https://a.io").unwrap_err();
        assert!(matches!(error, SourceError::Unsupported { .. }), "{error}");
        client("http://127.0.0.1:1").unwrap();
        let plain = Transport::new(RegistryOptions::default());
        let url = Url::parse("https://a.io").unwrap();
        plain.client(&url, false).unwrap();
        plain.client(&url, true).unwrap();
    }

    #[test]
    fn there_are_authorities_also_without_a_system() {
        let count = built_in_authorities().count();
        assert!(count > 100, "{count}");
    }

    #[test]
    fn redirects_stay_encrypted() {
        let transport = Transport::new(RegistryOptions::default());
        let check = |from: &str, to: &str| {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            transport.check_redirect(&from, &to).is_ok()
        };
        assert!(check("https://a.io", "https://b.io"));
        assert!(check("http://127.0.0.1:1", "http://127.0.0.1:2"));
        assert!(check("http://127.0.0.1:1", "https://b.io"));
        assert!(!check("https://a.io", "http://127.0.0.1:1"));
        assert!(!check("http://127.0.0.1:1", "http://b.io"));
        assert!(!check("https://a.io", "file:///etc/passwd"));
    }

    #[test]
    fn pauses_grow_and_end() {
        let options = RegistryOptions::default();
        assert_eq!(options.pause(1, None), options.first_pause);
        assert_eq!(options.pause(3, None), options.first_pause * 4);
        assert_eq!(options.pause(40, None), options.longest_pause);
        let asked = Duration::from_secs(3);
        assert_eq!(options.pause(1, Some(asked)), asked);
        assert_eq!(options.pause(1, Some(asked * 1000)), options.longest_pause);
    }
}
