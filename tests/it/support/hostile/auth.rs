//! Authentication: basic, and tokens with the habits of real token services.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::http::{Head, Response, decode};

/// How clients must authenticate. Name and password are [`USER`](crate::support::peers::USER) and
/// [`PASSWORD`](crate::support::peers::PASSWORD).
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// By name and password at every request.
    Basic,
    /// By bearer tokens from `/token` on the same server.
    Token(TokenAuth),
}

/// The habits of a token service.
#[derive(Debug, Clone)]
pub struct TokenAuth {
    /// How long a token is good, by the clock.
    pub expires_in: Duration,
    /// Whether the answer says so; where it does not, the specification's default is 60 seconds.
    pub says_expiry: bool,
    /// For how many requests a token is good; none for any number. Makes expiry independent of the clock.
    pub uses: Option<usize>,
    /// Only the last `scope` of a token request counts.
    pub honours_only_last_scope: bool,
    /// Also gives out refresh tokens, which `POST /token` takes.
    pub refresh_tokens: bool,
    /// Tokens to pull are given to anyone.
    pub anonymous_pull: bool,
    /// Calls the token `access_token` instead of `token`.
    pub access_token_only: bool,
    /// A token request whose URL is longer is answered 414.
    pub max_url: usize,
    /// Another realm than this server's `/token`.
    pub realm: Option<String>,
}

impl Default for TokenAuth {
    fn default() -> Self {
        Self {
            expires_in: Duration::from_secs(300),
            says_expiry: true,
            uses: None,
            honours_only_last_scope: false,
            refresh_tokens: false,
            anonymous_pull: false,
            access_token_only: false,
            max_url: 4096,
            realm: None,
        }
    }
}

/// A token that was given out.
#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    until: Instant,
    uses: Option<usize>,
}

/// What is known of tokens given out.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: BTreeMap<String, Token>,
    made: usize,
}

impl Tokens {
    /// Makes every token worthless.
    pub fn expire(&mut self) {
        self.tokens.clear();
    }

    /// Answers a request to `/token`.
    pub fn issue(&mut self, config: &TokenAuth, head: &Head, body: &[u8]) -> Response {
        if head.path.len() + head.query.len() > config.max_url {
            return Response::html(414, "Request-URI Too Large");
        }
        let parameters =
            if head.method == "POST" { form(&String::from_utf8_lossy(body)) } else { head.parameters() };
        let get =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let named = if head.method == "POST" {
            match get("grant_type") {
                Some("refresh_token") => {
                    config.refresh_tokens
                        && get("refresh_token").is_some_and(|token| token.starts_with("refresh-"))
                }
                Some("password") => {
                    get("username") == Some(crate::support::peers::USER)
                        && get("password") == Some(crate::support::peers::PASSWORD)
                }
                _ => return Response::error(400, "UNSUPPORTED", "unknown grant_type", &Value::Null),
            }
        } else {
            is_basic(head)
        };
        if !named && (head.header("authorization").is_some() || head.method == "POST") {
            return Response::error(401, "UNAUTHORIZED", "wrong credentials", &Value::Null);
        }
        if !named && !config.anonymous_pull {
            return Response::error(401, "UNAUTHORIZED", "who are you", &Value::Null);
        }
        let mut scopes: Vec<String> = parameters
            .iter()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' '))
            .map(str::to_owned)
            .collect();
        if config.honours_only_last_scope {
            scopes = scopes.pop().into_iter().collect();
        }
        if !named {
            scopes = scopes
                .into_iter()
                .map(|scope| scope.replace("pull,push", "pull"))
                .filter(|scope| scope.ends_with(":pull"))
                .collect();
        }
        self.made += 1;
        let text = format!("token-{}", self.made);
        self.tokens.insert(
            text.clone(),
            Token { scopes, until: Instant::now() + config.expires_in, uses: config.uses },
        );
        let field = if config.access_token_only || head.method == "POST" { "access_token" } else { "token" };
        let mut answer = json!({ field: text });
        if config.says_expiry {
            answer["expires_in"] = json!(config.expires_in.as_secs());
        }
        if config.refresh_tokens {
            answer["refresh_token"] = json!(format!("refresh-{}", self.made));
        }
        Response::json(200, &answer)
    }

    /// Returns whether the request's token is good and gives all these rights.
    fn covers(&mut self, head: &Head, rights: &[(&str, &str)]) -> bool {
        let Some(text) = head.header("authorization").and_then(|v| v.strip_prefix("Bearer ")) else {
            return false;
        };
        let Some(token) = self.tokens.get_mut(text) else {
            return false;
        };
        if token.until <= Instant::now() || token.uses == Some(0) {
            return false;
        }
        token.uses = token.uses.map(|uses| uses - 1);
        rights.iter().all(|(repository, action)| {
            token.scopes.iter().any(|scope| {
                let (name, actions) = scope.rsplit_once(':').unwrap_or_default();
                name == format!("repository:{repository}")
                    && actions.split(',').any(|a| a == *action || a == "*")
            })
        })
    }
}

/// Checks a request that needs these rights (`(repository, action)`; none is for `/v2/`); `Some` is the refusal.
pub fn check(
    auth: &Auth,
    tokens: &mut Tokens,
    host: &str,
    head: &Head,
    rights: &[(&str, &str)],
) -> Option<Response> {
    let detail: Vec<Value> = rights
        .iter()
        .map(|(name, action)| json!({ "Type": "repository", "Name": name, "Action": action }))
        .collect();
    let refusal = Response::error(401, "UNAUTHORIZED", "authentication required", &json!(detail));
    match auth {
        Auth::None => None,
        Auth::Basic => (!is_basic(head)).then(|| refusal.with("WWW-Authenticate", "Basic realm=\"test\"")),
        Auth::Token(config) => {
            if tokens.covers(head, rights) {
                return None;
            }
            let realm = config.realm.clone().unwrap_or_else(|| format!("http://{host}/token"));
            let mut challenge = format!("Bearer realm=\"{realm}\",service=\"test-registry\"");
            let scopes: Vec<String> = rights
                .iter()
                .map(|(name, action)| {
                    let actions = if *action == "push" { "pull,push" } else { action };
                    format!("repository:{name}:{actions}")
                })
                .collect();
            if !scopes.is_empty() {
                challenge += &format!(",scope=\"{}\"", scopes.join(" "));
            }
            if head.header("authorization").is_some() {
                challenge += ",error=\"invalid_token\"";
            }
            Some(refusal.with("WWW-Authenticate", &challenge))
        }
    }
}

fn is_basic(head: &Head) -> bool {
    let (user, password) = (crate::support::peers::USER, crate::support::peers::PASSWORD);
    let expected = BASE64_STANDARD.encode(format!("{user}:{password}"));
    head.header("authorization").and_then(|value| value.strip_prefix("Basic ")) == Some(&expected)
}

fn form(body: &str) -> Vec<(String, String)> {
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}
