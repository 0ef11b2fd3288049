//! [`Registry`]: one image in a registry, over the distribution protocol.
//!
//! | File | What |
//! |---|---|
//! | [`client`] | connections, redirects, time limits, repetition |
//! | `pace` | whether a stream brings enough to be waited for |
//! | `token` | the login challenge and the tokens |
//! | `blob` | a blob's stream: resumed when cut, verified, bounded |
//! | `upload` | the registry as a destination |

mod blob;
pub mod client;
mod pace;
mod token;
mod upload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

pub use client::{RegistryOptions, Transport};

use self::client::{Request, authority};
use self::pace::Pace;
use self::token::{Challenge, Token};
use super::credentials::{Credentials, Secret};
use super::manifest::{ACCEPTED, Descriptor, LARGEST_MANIFEST};
use super::reference::Reference;
use super::source::{BlobReader, Resolved, Source, SourceError, verify};
use crate::digest::{Algorithm, Digest, Hasher};

/// The largest answer of a token service that is read.
const LARGEST_ANSWER: u64 = 1024 * 1024;
/// The most characters of a registry's error text that go into a message.
const LONGEST_DETAIL: usize = 300;

/// One image in a registry.
///
/// A clone is the same image with the same login.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    transport: Transport,
    reference: Reference,
    base: Url,
    credentials: Option<Credentials>,
    login: Mutex<Login>,
    /// One thread at a time asks for a token.
    asking: tokio::sync::Mutex<()>,
    /// What tokens are asked for beside what the registry itself names.
    scopes: Vec<String>,
    /// Where else the registry may have a blob: repositories by the digest.
    neighbours: Neighbours,
}

/// Other repositories of a registry, by the digest of a blob that may be there.
pub type Neighbours = BTreeMap<Digest, Vec<String>>;

/// What the registry wants with every request.
#[derive(Clone, Debug, Default)]
enum Login {
    #[default]
    Nothing,
    Basic,
    Bearer(Token),
}

impl Registry {
    /// Connects nothing yet. The runtime must have threads of its own: the methods of [`Source`]
    /// block on it.
    ///
    /// # Errors
    /// When the reference's host can't be an address.
    pub fn new(
        runtime: Handle,
        transport: Transport,
        reference: Reference,
        credentials: Option<Credentials>,
    ) -> Result<Self, SourceError> {
        let none = Neighbours::new();
        Self::connect(runtime, transport, reference, credentials, Vec::new(), none)
    }

    /// As [`Registry::new`], for an image that is to be pushed there, some of whose blobs the registry
    /// may have in the `neighbours`.
    ///
    /// # Errors
    /// When the reference's host can't be an address, or it has no tag.
    pub fn for_push(
        runtime: Handle,
        transport: Transport,
        reference: Reference,
        credentials: Option<Credentials>,
        neighbours: Neighbours,
    ) -> Result<Self, SourceError> {
        if reference.digest().is_some() {
            return Err(SourceError::unsupported(
                format_args!("pushing to {reference}"),
                "the digest is found while pushing: name a tag",
            ));
        }
        let mut scopes = vec![format!("repository:{}:pull,push", reference.repository())];
        for repository in neighbours.values().flatten() {
            let scope = format!("repository:{repository}:pull");
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        Self::connect(
            runtime,
            transport,
            reference,
            credentials,
            scopes,
            neighbours,
        )
    }

    fn connect(
        runtime: Handle,
        transport: Transport,
        reference: Reference,
        credentials: Option<Credentials>,
        scopes: Vec<String>,
        neighbours: Neighbours,
    ) -> Result<Self, SourceError> {
        let host = match reference.host() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if transport.is_plain_allowed(host) {
            "http"
        } else {
            "https"
        };
        let address = format!("{scheme}://{host}/v2/{}/", reference.repository());
        let base = Url::parse(&address).map_err(|error| {
            SourceError::unsupported(format_args!("the address {address}"), error)
        })?;
        let login = match &credentials {
            Some(Credentials::RegistryToken(token)) => Login::Bearer(Token::lasting(token.clone())),
            _ => Login::Nothing,
        };
        Ok(Self(Arc::new(Inner {
            runtime,
            transport,
            reference,
            base,
            credentials,
            login: Mutex::new(login),
            asking: tokio::sync::Mutex::new(()),
            scopes,
            neighbours,
        })))
    }

    /// Gets `path` below the repository, logged in as the registry demands.
    ///
    /// The answer's status is one of success.
    async fn get(
        &self,
        path: &str,
        accept: Option<&'static str>,
        from: Option<u64>,
        what: &str,
    ) -> Result<Response, SourceError> {
        let url = self.address(path, what)?;
        let request = Request {
            accept,
            from,
            ..Request::default()
        };
        let response = self.exchange(&url, request, what).await?;
        self.judge(response, what).await
    }

    /// The address of `path` below the repository.
    fn address(&self, path: &str, what: &str) -> Result<Url, SourceError> {
        self.0
            .base
            .join(path)
            .map_err(|error| SourceError::unsupported(format_args!("the address of {what}"), error))
    }

    /// Sends a request, logged in as the registry demands; any answer but "log in" is a success here.
    async fn exchange(
        &self,
        url: &Url,
        mut request: Request,
        what: &str,
    ) -> Result<Response, SourceError> {
        let inner = &*self.0;
        let mut has_new_login = false;
        loop {
            let login = self.login();
            // Registries send uploads to other hosts, which the login is not for.
            request.authorization = match url.origin() == inner.base.origin() {
                true => inner.authorization(&login)?,
                false => None,
            };
            let response = inner.transport.send(url, &request, what).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            // A token may have run out in the middle of a pull: one new one is asked for. One that
            // another request got may have run out since.
            if has_new_login {
                return Err(self.rejected(response).await);
            }
            has_new_login = self.log_in(&login, response).await?;
        }
    }

    fn login(&self) -> Login {
        self.0
            .login
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Turns an answer that is no success into an error.
    async fn judge(&self, response: Response, what: &str) -> Result<Response, SourceError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let host = self.0.reference.host().to_owned();
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => SourceError::NotFound {
                what: what.to_owned(),
            },
            StatusCode::FORBIDDEN => SourceError::Denied {
                host,
                what: what.to_owned(),
            },
            _ => SourceError::unavailable(
                what,
                format_args!("the registry answered {status}{}", detail(response).await),
            ),
        })
    }

    async fn rejected(&self, response: Response) -> SourceError {
        let who = match &self.0.credentials {
            None => "no login for it is known".to_owned(),
            Some(Credentials::Basic { username, .. }) => {
                format!("the user {username:?} was tried")
            }
            Some(_) => "a token was tried".to_owned(),
        };
        SourceError::Unauthenticated {
            host: self.0.reference.host().to_owned(),
            detail: format!("{who}{}", detail(response).await),
        }
    }

    /// Meets the challenge in `response`, which `used` did not satisfy; false when another request has
    /// done so already.
    async fn log_in(&self, used: &Login, response: Response) -> Result<bool, SourceError> {
        let inner = &*self.0;
        let challenge = Challenge::choose(
            response
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok()),
        );
        let set = |login: Login| {
            *inner.login.lock().unwrap_or_else(PoisonError::into_inner) = login;
        };
        match challenge {
            None => return Err(self.rejected(response).await),
            Some(Challenge::Basic) => {
                let has_password = matches!(inner.credentials, Some(Credentials::Basic { .. }));
                if !has_password || matches!(used, Login::Basic) {
                    return Err(self.rejected(response).await);
                }
                set(Login::Basic);
            }
            Some(challenge) => {
                if matches!(inner.credentials, Some(Credentials::RegistryToken(_))) {
                    return Err(self.rejected(response).await);
                }
                drop(response);
                let _turn = inner.asking.lock().await;
                if let (Login::Bearer(new), old) = (self.login(), used)
                    && new.is_fresh()
                    && !matches!(old, Login::Bearer(old) if old.text == new.text)
                {
                    return Ok(false);
                }
                // Before the next one has its turn, or it would ask again.
                set(Login::Bearer(self.ask_for_token(&challenge).await?));
            }
        }
        Ok(true)
    }

    /// Gets a token for what is to be done in the repository.
    async fn ask_for_token(&self, challenge: &Challenge) -> Result<Token, SourceError> {
        let inner = &*self.0;
        let Challenge::Bearer {
            realm,
            service,
            scope,
        } = challenge
        else {
            return Err(SourceError::unavailable(
                "a token",
                "the registry asks for none",
            ));
        };
        let mut url = inner.token_service(realm)?;
        let host = authority(&url);
        let own_scope = format!("repository:{}:pull", inner.reference.repository());
        let mut fields: Vec<(&str, &str)> = match inner.scopes.as_slice() {
            [] => vec![("scope", scope.as_deref().unwrap_or(&own_scope))],
            scopes => scopes
                .iter()
                .map(|scope| ("scope", scope.as_str()))
                .collect(),
        };
        fields.extend(service.as_deref().map(|service| ("service", service)));
        let mut request = Request::default();
        if let Some(Credentials::IdentityToken(token)) = &inner.credentials {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "strata"),
                ("refresh_token", token.expose()),
            ]);
            let mut form = Url::parse("http://form/")
                .map_err(|error| SourceError::unsupported("a form", error))?;
            form.query_pairs_mut().extend_pairs(&fields);
            request.form = form.query().map(str::to_owned);
        } else {
            url.query_pairs_mut().extend_pairs(&fields);
            request.authorization = inner.basic()?;
        }
        let asked = Instant::now();
        let what = format!("a token from {host}");
        let response = inner.transport.send(&url, &request, &what).await?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(self.rejected(response).await);
            }
            status => {
                return Err(SourceError::unavailable(
                    what,
                    format_args!("it answered {status}"),
                ));
            }
        }
        let bytes = Zeroizing::new(read_body(response, inner.pace(), &what, LARGEST_ANSWER).await?);
        Token::parse(&bytes, asked)
            .ok_or_else(|| SourceError::unavailable(what, "its answer holds none"))
    }

    async fn fetch_manifest(
        &self,
        target: &str,
        limit: u64,
        expected: Option<&Digest>,
    ) -> Result<Resolved, SourceError> {
        let what = match expected {
            Some(digest) => format!("{}@{digest}", self.0.reference.without_target()),
            None => self.0.reference.to_string(),
        };
        let path = format!("manifests/{target}");
        let accept = accepted();
        let options = self.0.transport.options();
        let mut failures = 0;
        let (headers, bytes) = loop {
            let response = self.get(&path, Some(accept), None, &what).await?;
            let headers = response.headers().clone();
            match read_body(response, self.0.pace(), &what, limit).await {
                Ok(bytes) => break (headers, bytes),
                Err(error @ SourceError::Unavailable { .. }) => {
                    failures += 1;
                    if failures >= options.attempts.max(1) {
                        return Err(error);
                    }
                    tokio::time::sleep(options.pause(failures, None)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let told = header(&headers, "docker-content-digest").and_then(|text| text.parse().ok());
        let expected = expected.cloned().or(told);
        let algorithm = expected
            .as_ref()
            .map_or(Algorithm::Sha256, Digest::algorithm);
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&bytes);
        let digest = hasher.finish();
        if let Some(expected) = &expected
            && *expected != digest
        {
            return Err(SourceError::corrupt(
                &what,
                format_args!("its digest is {digest} and should be {expected}"),
            ));
        }
        Ok(Resolved {
            bytes,
            digest,
            media_type: header(&headers, "content-type").unwrap_or("").to_owned(),
        })
    }
}

impl Source for Registry {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        let reference = &self.0.reference;
        self.0.runtime.block_on(self.fetch_manifest(
            reference.target(),
            LARGEST_MANIFEST,
            reference.digest(),
        ))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Resolved, SourceError> {
        if descriptor.size > LARGEST_MANIFEST {
            return Err(SourceError::TooLarge {
                what: format!("the manifest {}", descriptor.digest),
                size: descriptor.size,
                limit: LARGEST_MANIFEST,
            });
        }
        let digest = &descriptor.digest;
        let fetch = self.fetch_manifest(digest.as_str(), LARGEST_MANIFEST, Some(digest));
        let mut resolved = self.0.runtime.block_on(fetch)?;
        verify(
            resolved.digest.clone(),
            resolved.bytes.len() as u64,
            digest,
            descriptor.size,
        )?;
        if !descriptor.media_type.is_empty() {
            resolved.media_type.clone_from(&descriptor.media_type);
        }
        Ok(resolved)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, SourceError> {
        Ok(Box::new(blob::open(self, descriptor)?))
    }
}

impl Inner {
    /// What an answer's bytes are measured by.
    fn pace(&self) -> Pace {
        Pace::new(self.transport.options())
    }

    /// The `Authorization` header for this login.
    fn authorization(&self, login: &Login) -> Result<Option<HeaderValue>, SourceError> {
        match login {
            Login::Nothing => Ok(None),
            Login::Basic => self.basic(),
            Login::Bearer(token) => {
                let text = Zeroizing::new(format!("Bearer {}", token.text.expose()));
                self.secret_header(&text).map(Some)
            }
        }
    }

    fn basic(&self) -> Result<Option<HeaderValue>, SourceError> {
        let Some(Credentials::Basic { username, password }) = &self.credentials else {
            return Ok(None);
        };
        let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
        let text = Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        self.secret_header(text.expose()).map(Some)
    }

    fn secret_header(&self, text: &str) -> Result<HeaderValue, SourceError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| SourceError::Unauthenticated {
            host: self.reference.host().to_owned(),
            detail: "the login has characters that can't be sent".into(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The token service's address: encrypted, or plain where the registry itself is.
    fn token_service(&self, realm: &str) -> Result<Url, SourceError> {
        let url = Url::parse(realm).ok().filter(|url| match url.scheme() {
            "https" => true,
            "http" => self.base.scheme() == "http",
            _ => false,
        });
        url.ok_or_else(|| {
            SourceError::unsupported(
                format_args!("the token service {realm:?}"),
                "its address is not an encrypted one",
            )
        })
    }
}

/// Reads an answer wholly, at most `limit` bytes.
async fn read_body(
    mut response: Response,
    mut pace: Pace,
    what: &str,
    limit: u64,
) -> Result<Vec<u8>, SourceError> {
    let too_large = |size: u64| SourceError::TooLarge {
        what: what.to_owned(),
        size,
        limit,
    };
    if let Some(size) = response.content_length()
        && size > limit
    {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    loop {
        match pace.next(&mut response).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(stopped) => return Err(SourceError::unavailable(what, stopped.detail())),
        }
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
    }
}

/// The registry's own words, bounded and on one line, after a colon; empty when there are none.
async fn detail(response: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        errors: Option<Vec<Failure>>,
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Failure {
        code: Option<String>,
        message: Option<String>,
    }
    let pace = Pace::new(&RegistryOptions::default());
    let Ok(bytes) = read_body(response, pace, "", 64 * 1024).await else {
        return String::new();
    };
    let Ok(answer) = serde_json::from_slice::<Answer>(&bytes) else {
        return String::new();
    };
    let first = answer
        .errors
        .and_then(|errors| errors.into_iter().next())
        .and_then(|failure| failure.message.or(failure.code));
    match first.or(answer.details) {
        Some(text) => {
            let text: String = text
                .chars()
                .filter(|letter| !letter.is_control())
                .take(LONGEST_DETAIL)
                .collect();
            format!(": {text}")
        }
        None => String::new(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The `Accept` header: everything that [`super::manifest`] can read.
fn accepted() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| ACCEPTED.join(", "))
}
