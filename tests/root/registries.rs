//! Registries that speak TLS, in a network name space that leads nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::image::{self, Built};
use crate::support::plugin::{self, Settings};
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::tool::{self, Ran, Tool};

/// Not a loopback address, which may be spoken to without encryption.
const ADDRESS: &str = "10.99.0.1";
const HOST: &str = "10.99.0.1:5443";

/// A network of one machine, a certificate for it, and a registry's data.
struct Island {
    holder: Child,
    built: Built,
    scratch: Scratch,
}

impl Island {
    fn new() -> Self {
        tool::require_root();
        let scratch = Scratch::new("tls");
        let layout = scratch.path().join("layout");
        let built = image::write_busybox_layout(&layout, "one");
        let registry = Registry::start(&scratch.dir("registry"));
        registry.push(&layout, "test/busybox", "one");
        registry.stop();
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c"])
            .arg(format!(
                "ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo && exec sleep 600"
            ))
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare can be run");
        let mut island = Self {
            holder,
            built,
            scratch,
        };
        let mut line = [0];
        let out = island.holder.stdout.as_mut().unwrap();
        std::io::Read::read_exact(out, &mut line).expect("the network comes up");
        island.make_certificates();
        island
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn make_certificates(&self) {
        let openssl = |arguments: &str| {
            Tool::new("openssl")
                .args(arguments.split(' '))
                .env("RANDFILE", self.path("random"))
                .ok()
        };
        let folder = self.scratch.dir("certs").display().to_string();
        fs::write(
            self.path("extensions"),
            format!("subjectAltName=IP:{ADDRESS}\n"),
        )
        .unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {key} -keyout {folder}/ca.key -out {folder}/ca.crt -days 2 -subj /CN=island"
        ));
        openssl(&format!(
            "req {key} -keyout {folder}/server.key -out {folder}/server.csr -subj /CN=registry"
        ));
        openssl(&format!(
            "x509 -req -in {folder}/server.csr -CA {folder}/ca.crt -CAkey {folder}/ca.key \
             -CAcreateserial -days 2 -extfile {} -out {folder}/server.pem",
            self.path("extensions").display()
        ));
        // As an administrator puts it: the authority alone.
        fs::copy(
            self.path("certs/ca.crt"),
            self.scratch.dir("trusted").join("ca.crt"),
        )
        .unwrap();
    }

    fn inside(&self, program: &Path) -> Tool {
        Tool::new("nsenter")
            .args(["--net", "--target", &self.holder.id().to_string(), "--"])
            .arg(program)
    }

    /// Debian's registry with TLS; with `auth` as a part of its configuration.
    fn serve(&self, auth: serde_json::Value) -> Serving {
        let certs = self.path("certs");
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "info" },
            "storage": { "filesystem": { "rootdirectory": self.path("registry/data") } },
            "http": { "addr": HOST, "tls": {
                "certificate": certs.join("server.pem"), "key": certs.join("server.key") } },
        });
        if !auth.is_null() {
            config["auth"] = auth;
        }
        let file = self.path("tls.yml");
        fs::write(&file, config.to_string()).unwrap();
        let log = self.path("tls.log");
        let out = fs::File::create(&log).unwrap();
        let child = Command::new("nsenter")
            .args(["--net", "--target", &self.holder.id().to_string(), "--"])
            .arg(tool::find("docker-registry"))
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .expect("the registry can be run");
        let serving = Serving(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&log).unwrap().contains("listening on") {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        serving
    }

    fn pull(&self, store: &str, arguments: &[&str], environment: Option<&Path>) -> Ran {
        let folder = self.scratch.dir(store);
        let settings = Settings::below(&folder, &plugin::binary(env!("CARGO_BIN_EXE_strata")));
        let tool = self
            .inside(&settings.binary)
            .args(settings.store_arguments())
            .args(["pull", "--quiet"])
            .args(arguments)
            .arg(format!("{HOST}/test/busybox:one"));
        Self::trusting(tool, environment)
    }

    /// Pushes what `store` has pulled.
    fn push(&self, store: &str, arguments: &[&str], environment: Option<&Path>) -> Ran {
        let folder = self.path(store);
        let settings = Settings::below(&folder, &plugin::binary(env!("CARGO_BIN_EXE_strata")));
        let tool = self
            .inside(&settings.binary)
            .args(settings.store_arguments())
            .args(["push", "--quiet"])
            .args(arguments)
            .arg(format!("{HOST}/test/busybox:one"))
            .arg(format!("{HOST}/test/pushed:one"));
        Self::trusting(tool, environment)
    }

    fn trusting(mut tool: Tool, environment: Option<&Path>) -> Ran {
        if let Some(file) = environment {
            tool = tool.env("SSL_CERT_FILE", file);
        }
        tool.output()
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_registry_with_a_certificate_is_spoken_to_when_somebody_vouches_for_it() {
    let island = Island::new();
    let _serving = island.serve(serde_json::Value::Null);

    let refused = island.pull("untrusted", &[], None);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(
        refused.stderr.contains("certificate") && refused.stderr.contains(HOST),
        "{refused}"
    );
    let trusted = island.path("trusted");
    let folder = trusted.to_str().unwrap();
    let pulled = island.pull("folder", &["--cert-dir", folder], None);
    assert_eq!(pulled.code, 0, "{pulled}");
    assert_eq!(pulled.last_line(), island.built.id);
    let pulled = island.pull("variable", &[], Some(&trusted.join("ca.crt")));
    assert_eq!(pulled.code, 0, "{pulled}");

    // The same for what is sent there.
    let refused = island.push("folder", &[], None);
    assert!(
        refused.code != 0 && refused.stderr.contains("certificate"),
        "{refused}"
    );
    let pushed = island.push(
        "folder",
        &["--cert-dir", folder, "--compression=zstd"],
        None,
    );
    assert_eq!(pushed.code, 0, "{pushed}");
    assert_eq!(pushed.last_line(), island.built.manifest_digest);

    let missing = island.pull("missing", &["--cert-dir", "/nowhere/certs"], None);
    assert!(
        missing.code != 0 && missing.stderr.contains("/nowhere/certs"),
        "{missing}"
    );
}

/// The login would go over the wire for everybody to read.
#[test]
fn an_encrypted_registry_may_not_name_a_token_service_that_is_not() {
    let island = Island::new();
    let _serving = island.serve(serde_json::json!({ "token": {
        "realm": "http://10.99.0.1:5080/token", "service": "island", "issuer": "island",
        "rootcertbundle": island.path("certs/server.pem"),
    }}));
    let trusted = island.path("trusted");
    let refused = island.pull("token", &["--cert-dir", trusted.to_str().unwrap()], None);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(
        refused.stderr.contains("http://10.99.0.1:5080/token")
            && refused.stderr.contains("not an encrypted one"),
        "{refused}"
    );
}
