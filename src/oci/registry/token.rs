//! The `WWW-Authenticate` header, and what the token service answers.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::oci::credentials::Secret;

/// Tokens whose life is not told live this long.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(5);

/// How a registry wants us to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With user and password at every request.
    Basic,
    /// With a token from a token service.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge of these header values that we can meet best: a token before a password.
    pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut best = None;
        for (scheme, parameters) in headers.flat_map(parse) {
            let find = |name: &str| {
                parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = find("realm")
            {
                return Some(Self::Bearer {
                    realm,
                    service: find("service"),
                    scope: find("scope"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                best = Some(Self::Basic);
            }
        }
        best
    }
}

type Parameters = Vec<(String, String)>;

/// Splits a header into schemes and their parameters; what is malformed ends it.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest
            .find(|letter: char| !is_token(letter))
            .unwrap_or(rest.len());
        if end == 0 {
            return challenges;
        }
        let (word, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            challenges.push((word.to_owned(), Vec::new()));
            rest = after;
            continue;
        };
        let Some((value, after)) = parse_value(value.trim_start()) else {
            return challenges;
        };
        let Some((_, parameters)) = challenges.last_mut() else {
            return challenges;
        };
        parameters.push((word.to_owned(), value));
        rest = after;
    }
}

/// A token or a quoted string, and what follows it.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .find(|letter: char| !is_token(letter))
            .unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(letter)
}

/// A token and when it stops being useful.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: Secret,
    until: Instant,
}

impl Token {
    /// A token that the registry itself gave, of unknown life.
    pub(super) fn lasting(text: Secret) -> Self {
        Self {
            text,
            until: Instant::now() + Duration::from_secs(24 * 60 * 60),
        }
    }

    /// Reads a token service's answer; none when there is no token in it.
    pub(super) fn parse(bytes: &[u8], asked: Instant) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<Secret>,
            access_token: Option<Secret>,
            expires_in: Option<f64>,
        }
        let answer: Answer = serde_json::from_slice(bytes).ok()?;
        let is_some = |text: &Secret| !text.expose().is_empty();
        let text = answer
            .token
            .filter(is_some)
            .or(answer.access_token.filter(is_some))?;
        let told = answer
            .expires_in
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(86_400.0)).ok());
        let life = told.unwrap_or(DEFAULT_LIFE).max(MARGIN * 2);
        Some(Self {
            text,
            until: asked + life - MARGIN,
        })
    }

    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_they_are_written() {
        let bearer = |scope: Option<&str>| Challenge::Bearer {
            realm: "https://auth.io/token".into(),
            service: Some("reg,istry".into()),
            scope: scope.map(str::to_owned),
        };
        let cases = [
            (
                r#"Bearer realm="https://auth.io/token",service="reg,istry",scope="repository:a/b:pull""#,
                Some(bearer(Some("repository:a/b:pull"))),
            ),
            (
                r#"Basic realm="x", bearer Realm = "https://auth.io/token" , service="reg\,istry""#,
                Some(bearer(None)),
            ),
            (r#"Basic realm="a \"b\"""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Negotiate abc", None),
            (r#"Bearer service="x""#, None),
            (r#"Bearer realm="open"#, None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(
                Challenge::choose([header].into_iter()),
                expected,
                "{header}"
            );
        }
    }

    #[test]
    fn tokens_live_as_long_as_they_say() {
        let now = Instant::now();
        let parse = |text: &str| Token::parse(text.as_bytes(), now);
        let token = parse(r#"{"token":"","access_token":"b","expires_in":300}"#).unwrap();
        assert_eq!(token.text.expose(), "b");
        assert_eq!(token.until, now + Duration::from_secs(295));
        assert!(
            parse(r#"{"token":"a","expires_in":1e300}"#)
                .unwrap()
                .is_fresh()
        );
        assert!(
            parse(r#"{"token":"a","expires_in":-1}"#)
                .unwrap()
                .is_fresh()
        );
        assert!(parse("{}").is_none() && parse("x").is_none());
    }
}
