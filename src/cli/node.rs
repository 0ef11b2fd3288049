//! `node`: serves CSI on the socket of `CSI_ENDPOINT`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::definition::{Definition, Flag, Run};
use super::failure::{Failure, Outcome};
use super::grammar::Given;
use super::output::Output;
use super::session;
use crate::node::kubernetes::ApiServer;
use crate::node::{Config, plugin, preflight};
use crate::sys::File;
use crate::telemetry::{self, Format};

const NODE: &[Flag] = &[
    Flag::value("node-name", None, "Name of this node in Kubernetes"),
    Flag::value(
        "kubelet-dir",
        None,
        "The kubelet's root directory (default /var/lib/kubelet)",
    ),
    Flag::value(
        "http",
        None,
        "Address for health, readiness and metrics, as 127.0.0.1:9808; :9808 for all addresses",
    ),
    Flag::value(
        "preflight",
        None,
        "Serve no volumes: wait until the node's mounts, which this file lists as /proc/1/mountinfo does, are shared",
    ),
    Flag::value(
        "shutdown-file",
        None,
        "File whose presence at the end says that the node goes down: inline volumes are saved",
    ),
    Flag::values(
        "insecure-registry",
        None,
        "Host (and port) of a registry that is talked to in plain http; may be given several times",
    ),
    Flag::values(
        "registry-authorities",
        None,
        "File with certificate authorities for registries, in PEM form, beside those of the system",
    ),
    Flag::value(
        "authfile",
        None,
        "File with logins for volumes whose pull secret has none; every pod may then use them",
    ),
    Flag::value("driver-name", None, "CSI driver name"),
    Flag::value(
        "log-level",
        None,
        "error, warn, info, debug or trace, also per module",
    ),
    Flag::one_of("log-format", &["text", "json"], "Form of the log lines"),
];

/// The commands of this file.
pub(super) const COMMANDS: &[Definition] = &[Definition::own(
    "node",
    "Serve CSI on the socket of $CSI_ENDPOINT",
    Run::Alone(run),
)
.flags(&[NODE, session::PULL_LIMITS])];

/// `node`: returns when the process is asked to end.
fn run(given: &Given, _: &mut Output) -> Outcome {
    let format = match given.text("log-format") {
        Some("json") => Format::Json,
        _ => Format::Text,
    };
    let filter = match given.filled("log-level") {
        Some(filter) => filter,
        None if given.has("debug") => "strata=debug,info",
        None => "info",
    };
    let config = config(given)?;
    let store = session::config(given)?;
    telemetry::init(filter, format).map_err(|error| Failure::because(&error))?;
    match given.filled("preflight").map(PathBuf::from) {
        Some(table) => preflight::run(&config, &store, &table),
        None => plugin::run(config, store),
    }
    .map_err(|error| Failure::because(&error))?;
    Ok(0)
}

fn config(given: &Given) -> Result<Config, Failure> {
    let endpoint = session::text_variable("CSI_ENDPOINT")?.ok_or_else(|| {
        Failure::new("the environment variable CSI_ENDPOINT is not set")
            .advise("name the socket to serve, as unix:///csi/csi.sock")
    })?;
    let node_name = match given.filled("node-name") {
        Some(name) => name.to_owned(),
        None => session::text_variable("NODE_NAME")?.ok_or_else(|| {
            Failure::new("the node has no name")
                .advise("give --node-name, or set NODE_NAME, to the node's name in Kubernetes")
        })?,
    };
    let kubelet_dir = given.filled("kubelet-dir").unwrap_or("/var/lib/kubelet");
    let mut config = Config::new(node_name, kubelet_dir, endpoint);
    if let Some(name) = given.filled("driver-name") {
        config.driver_name = name.to_owned();
    }
    if let Some(text) = given.filled("http") {
        config.http_address = Some(http_address(text)?);
    }
    config.shutdown_file = given.filled("shutdown-file").map(Into::into);
    config.api = api_server()?;
    config
        .registry
        .insecure
        .extend(given.texts("insecure-registry"));
    for file in given.texts("registry-authorities") {
        let bytes = File::open(file)?.read_all()?;
        config.registry.authorities.push(bytes);
    }
    config.logins = given.filled("authfile").map(Into::into);
    session::limit_pulls(given, &mut config.pulls)?;
    Ok(config)
}

/// The API server, as every pod is told.
pub(super) fn api_server() -> Result<Option<ApiServer>, Failure> {
    let host = session::text_variable("KUBERNETES_SERVICE_HOST")?;
    let port = session::text_variable("KUBERNETES_SERVICE_PORT")?;
    let (Some(host), Some(port)) = (host, port) else {
        return Ok(None);
    };
    let host = match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host,
    };
    let account = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
    Ok(Some(ApiServer {
        address: format!("https://{host}:{port}"),
        authorities: account.join("ca.crt"),
        token: account.join("token"),
    }))
}

/// An address to listen at; without a host it is every address of the machine.
fn http_address(text: &str) -> Result<SocketAddr, Failure> {
    let address = match text.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| {
        Failure::new(format!("--http: {text:?} is not an address"))
            .advise("name an IP address and a port, as 127.0.0.1:9808, or :9808 for all addresses")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_host() {
        let address = |text| http_address(text).ok().map(|address| address.to_string());
        assert_eq!(address("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(address(":9808").as_deref(), Some("[::]:9808"));
        for text in ["", ":", "9808", "localhost:1", ":99999"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
