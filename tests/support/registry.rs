//! A real registry on a free loopback port, and pushing to it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::image::{self, Assembled, Built};
use super::{http, tool};

/// Debian's docker-registry as a child process; gone when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
}

/// A loopback address that nobody listens on at this moment.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free loopback port")
}

/// Who may log in, in a registry's folder.
const LOGINS: &str = "htpasswd";

impl Registry {
    /// Starts it with its data and its log in `folder`, and waits until it answers.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the registry's folder can be made");
        for _ in 0..5 {
            // Between finding the port and binding it somebody else may take it: then once more.
            if let Some(registry) = Self::try_start(folder, free_address()) {
                return registry;
            }
        }
        Self::fail(folder)
    }

    /// As [`Registry::start`], for who logs in as the line of an htpasswd file says.
    pub fn start_with_login(folder: &Path, line: &str) -> Self {
        fs::write(folder.join(LOGINS), format!("{line}\n")).expect("the logins can be written");
        Self::start(folder)
    }

    /// The same at an address that outlives it, where nobody else can be.
    pub fn start_at(folder: &Path, address: SocketAddr) -> Self {
        fs::create_dir_all(folder).expect("the registry's folder can be made");
        Self::try_start(folder, address).unwrap_or_else(|| Self::fail(folder))
    }

    fn fail(folder: &Path) -> ! {
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("the registry does not start:\n{log}");
    }

    fn try_start(folder: &Path, address: SocketAddr) -> Option<Self> {
        let data = folder.join("data");
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": data } },
            "http": { "addr": address.to_string() },
        });
        let logins = folder.join(LOGINS);
        let has_logins = logins.exists();
        if has_logins {
            config["auth"] = serde_json::json!({ "htpasswd": { "realm": "test", "path": logins } });
        }
        let ready = if has_logins { 401 } else { 200 };
        let file = folder.join("config.yml");
        fs::write(&file, config.to_string()).expect("the registry's configuration can be written");
        let log = fs::File::create(folder.join("log")).expect("the registry's log can be written");
        let child = Command::new(tool::find("docker-registry"))
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("the registry can be run");
        let mut registry = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if registry.child.try_wait().expect("its state").is_some() {
                return None;
            }
            if http::request(address, "GET", "/v2/", &[], &[]).is_ok_and(|a| a.status == ready) {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Stops it and leaves its data.
    pub fn stop(self) {}

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reference of `repository:tag` in this registry.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    /// Pushes the image of the layout's first manifest, as it is, and returns its digest.
    pub fn push(&self, layout: &Path, repository: &str, tag: &str) -> String {
        let read = |digest: &str| {
            let path = layout.join("blobs").join(digest.replace(':', "/"));
            fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
        };
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).expect("an index"))
                .expect("an index is JSON");
        let entry = &index["manifests"][0];
        let digest = entry["digest"].as_str().expect("a digest").to_owned();
        let bytes = read(&digest);
        let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
        let mut blobs = vec![manifest["config"]["digest"].as_str().expect("a config")];
        for layer in manifest["layers"].as_array().expect("layers") {
            blobs.push(layer["digest"].as_str().expect("a digest"));
        }
        for blob in blobs {
            self.push_blob(repository, blob, &read(blob));
        }
        let media_type = entry["mediaType"]
            .as_str()
            .unwrap_or("application/vnd.oci.image.manifest.v1+json");
        self.push_manifest(repository, tag, media_type, &bytes);
        digest
    }

    /// Pushes the image by its digest.
    pub fn push_image(&self, repository: &str, image: &Assembled) {
        for bytes in &image.blobs {
            self.push_blob(repository, &image::digest(bytes), bytes);
        }
        let Built {
            manifest_digest,
            manifest,
            ..
        } = &image.built;
        self.push_manifest(
            repository,
            manifest_digest,
            image.format.manifest(),
            manifest,
        );
    }

    pub fn push_blob(&self, repository: &str, digest: &str, bytes: &[u8]) {
        let begun = self.request(
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            &[],
            &[],
        );
        assert_eq!(begun.status, 202, "{}", begun.text());
        let location = begun.header("Location").expect("a place to upload to");
        let path = location.split_once("//").map_or(location, |(_, rest)| {
            &rest[rest.find('/').expect("a path")..]
        });
        let joint = if path.contains('?') { '&' } else { '?' };
        let stored = self.request(
            "PUT",
            &format!("{path}{joint}digest={digest}"),
            &[("Content-Type", "application/octet-stream")],
            bytes,
        );
        assert_eq!(stored.status, 201, "{}", stored.text());
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let stored = self.request(
            "PUT",
            &format!("/v2/{repository}/manifests/{tag}"),
            &[("Content-Type", media_type)],
            bytes,
        );
        assert_eq!(stored.status, 201, "{}", stored.text());
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Answer {
        http::request(self.address, method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
