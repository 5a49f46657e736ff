//! The HTTP client of all verbs: finds whom to ask, asks, and says in words what came of it.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::error::{CliError, chain};
use crate::cli::home::Home;
use crate::shell::http::model::ApiErrorBody;

/// Where `cluster start` puts the API of its first node.
pub const DEFAULT_API: &str = "127.0.0.1:7501";
/// How long a node may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Addresses that are named when none of them answers.
const FAILURES_SHOWN: usize = 5;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// API addresses, tried in order.
    pub addrs: Vec<String>,
    /// The local cluster they belong to, if any.
    pub cluster: Option<String>,
}

/// Asks nodes.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Whom.
    pub target: Target,
}

impl Target {
    /// Whom `--node` and `--context` mean: an address, a node of the current cluster, or any of its nodes.
    ///
    /// # Errors
    /// If a name means nothing.
    pub fn find(home: &Home, node: Option<&str>, context: Option<&str>) -> Result<Self, CliError> {
        if let Some(addr) = node.filter(|node| node.contains(':')) {
            return Ok(Self { addrs: vec![addr.to_owned()], cluster: None });
        }
        let contexts = home.contexts()?;
        let name = context.map(str::to_owned).or(contexts.current.clone());
        if let Some(addrs) = name.as_ref().and_then(|name| contexts.remote.get(name)) {
            return match node {
                None => Ok(Self { addrs: addrs.clone(), cluster: None }),
                Some(node) => Err(CliError::usage(format!("node {node} of a cluster elsewhere is not known by name"))
                    .hint("say --node HOST:PORT")),
            };
        }
        let Ok(name) = home.meant(name.as_deref()) else {
            return match node {
                None => Ok(Self { addrs: vec![DEFAULT_API.to_owned()], cluster: None }),
                Some(node) => Err(CliError::usage(format!("node {node} is not known: no cluster runs here"))
                    .hint("say --node HOST:PORT, the API address of a node")),
            };
        };
        let cluster = home.cluster(&name)?;
        let addrs = match node {
            Some(node) => vec![cluster.node(node)?.api.clone()],
            None => cluster.nodes.iter().map(|node| node.api.clone()).collect(),
        };
        Ok(Self { addrs, cluster: Some(name) })
    }
}

impl Client {
    /// A client for these addresses.
    pub fn new(target: Target) -> Self {
        let http = reqwest::Client::builder().connect_timeout(CONNECT_PATIENCE).no_proxy().build();
        Self { http: http.expect("a client without TLS has nothing to fail on"), target }
    }

    /// The same client, asking this address alone.
    pub fn at(&self, addr: &str) -> Self {
        Self { target: Target { addrs: vec![addr.to_owned()], cluster: None }, http: self.http.clone() }
    }

    /// The same, asking these addresses instead.
    pub fn asking(&self, addrs: Vec<String>) -> Self {
        Self { target: Target { addrs, cluster: self.target.cluster.clone() }, ..self.clone() }
    }

    fn request(&self, addr: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{addr}{path}"))
    }

    /// Sends to the first address that answers.
    ///
    /// # Errors
    /// If none answers (exit code 4), or the answer is an error.
    pub async fn send(&self, build: impl Fn(&str) -> RequestBuilder) -> Result<Response, CliError> {
        let mut failures = Vec::new();
        for addr in &self.target.addrs {
            match build(addr).send().await {
                Ok(response) => return checked(response).await,
                Err(error) => failures.push(unreachable(addr, &error)),
            }
        }
        let hint = match &self.target.cluster {
            Some(name) => format!("`sensorctl cluster status --name {name}` shows its processes"),
            None => "is it running? Say --node HOST:PORT to ask another, or `sensorctl cluster start`".to_owned(),
        };
        let more = failures.len().saturating_sub(FAILURES_SHOWN);
        failures.truncate(FAILURES_SHOWN);
        if more > 0 {
            failures.push(format!("and {more} more that do not answer"));
        }
        Err(CliError::unreachable(failures.join("\n")).hint(hint))
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, patience: Duration) -> Result<T, CliError> {
        let response = self.send(|addr| self.request(addr, Method::GET, path).timeout(patience)).await?;
        read(response).await
    }

    /// Gets JSON from one address.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn get_from<T: DeserializeOwned>(
        &self,
        addr: &str,
        path: &str,
        patience: Duration,
    ) -> Result<T, CliError> {
        let response = self.request(addr, Method::GET, path).timeout(patience).send().await;
        read(checked(response.map_err(|error| CliError::unreachable(unreachable(addr, &error)))?).await?).await
    }

    /// Gets bytes.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn get_bytes(&self, path: &str, patience: Duration) -> Result<Vec<u8>, CliError> {
        let response = self.send(|addr| self.request(addr, Method::GET, path).timeout(patience)).await?;
        response.bytes().await.map(Vec::from).map_err(|error| CliError::unreachable(chain(&error)))
    }

    /// Sends a command, following the answer that somebody else leads.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn command<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        patience: Duration,
    ) -> Result<T, CliError> {
        let build = |addr: &str| {
            let request = self.request(addr, method.clone(), path).timeout(patience);
            match body {
                Some(body) => request.json(body),
                None => request,
            }
        };
        match self.send(build).await {
            Err(error) => match error.hint.as_deref().and_then(|hint| hint.strip_prefix(REDIRECT)) {
                Some(addr) => {
                    let leader =
                        Self { target: Target { addrs: vec![addr.to_owned()], cluster: None }, ..self.clone() };
                    read(leader.send(build).await?).await
                }
                None => Err(error),
            },
            Ok(response) => read(response).await,
        }
    }

    /// Opens the stream of changes at the first address that answers.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn stream(&self, path: &str) -> Result<Response, CliError> {
        self.send(|addr| self.request(addr, Method::GET, path)).await
    }

    /// Sends a body as it comes to the first address that answers.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn post_stream(&self, path: &str, body: reqwest::Body) -> Result<Response, CliError> {
        // What has been sent is gone: who is there is found out first.
        let found = self.send(|addr| self.request(addr, Method::GET, "/livez").timeout(CONNECT_PATIENCE)).await?;
        let addr = found.url().authority().to_owned();
        let response = self.request(&addr, Method::POST, path).body(body).send().await;
        checked(response.map_err(|error| CliError::unreachable(unreachable(&addr, &error)))?).await
    }

    /// Asks many addresses at once; those that do not answer in time are left out.
    pub async fn ask_all<T: DeserializeOwned>(&self, addrs: Vec<String>, path: &str, patience: Duration) -> Vec<T> {
        let asked = addrs.into_iter().map(|addr| async move { self.get_from(&addr, path, patience).await.ok() });
        stream::iter(asked).buffer_unordered(64).filter_map(|answer| async { answer }).collect().await
    }
}

/// Begins the hint of an error that says who leads.
const REDIRECT: &str = "ask the leader at ";

fn unreachable(addr: &str, error: &reqwest::Error) -> String {
    let why = chain(error);
    if error.is_timeout() {
        return format!("{addr} did not answer in time");
    }
    if why.contains("Connection refused") {
        return format!("nobody listens on {addr}");
    }
    format!("{addr} cannot be asked: {}", error.without_url_text())
}

/// What went wrong, without repeating the address.
trait WithoutUrl {
    fn without_url_text(&self) -> String;
}

impl WithoutUrl for reqwest::Error {
    fn without_url_text(&self) -> String {
        let mut cause: &dyn std::error::Error = self;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        cause.to_string()
    }
}

/// The response if it is a success, else its error in words.
async fn checked(response: Response) -> Result<Response, CliError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let Ok(ApiErrorBody { error }) = serde_json::from_str(&text) else {
        return Err(CliError::failed(format!("the node answered {status}: {}", text.trim())));
    };
    let failure = match error.kind.as_str() {
        "timeout" => CliError::unreachable(error.message),
        "bad_request" => CliError::usage(error.message),
        _ => CliError::failed(error.message),
    };
    Err(match (error.api, error.hint) {
        (Some(api), _) => failure.hint(format!("{REDIRECT}{api}")),
        (None, Some(hint)) => failure.hint(hint),
        (None, None) => failure,
    })
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, CliError> {
    let bytes = response.bytes().await.map_err(|error| match error.is_timeout() {
        true => CliError::unreachable("the answer did not come in time"),
        false => CliError::unreachable(chain(&error)),
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CliError::because("the answer makes no sense to this version of sensorctl", &error))
}
