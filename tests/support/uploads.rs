//! What the registry of these tests takes in: blobs in uploads, and manifests.

use strata::digest::Digest;

use super::server::{Seen, State};

impl State {
    /// Carries out a request that is no `GET`: status and header lines.
    pub(super) fn carry_out(&mut self, seen: &Seen) -> (u16, String) {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let parts: Vec<&str> = path.rsplitn(2, "/blobs/uploads/").collect();
        match (seen.method.as_str(), parts.as_slice()) {
            ("HEAD", _) => match self.objects.get(path) {
                Some((_, bytes)) => (200, format!("Content-Length: {}\r\n", bytes.len())),
                None => (404, "Content-Length: 0\r\n".to_owned()),
            },
            ("POST", ["", repository]) => self.begin(repository, query),
            ("PATCH", [number, repository]) => {
                let Some(bytes) = number.parse().ok().and_then(|n| self.uploads.get_mut(&n)) else {
                    return (404, String::new());
                };
                bytes.extend_from_slice(&seen.body);
                let place = format!("Location: {repository}/blobs/uploads/{number}?state=x\r\n");
                (202, place)
            }
            ("PUT", [number, repository]) => {
                let Some(mut bytes) = number.parse().ok().and_then(|n| self.uploads.remove(&n))
                else {
                    return (404, String::new());
                };
                bytes.extend_from_slice(&seen.body);
                let digest = Digest::of(&bytes);
                let said = query
                    .split("digest=")
                    .nth(1)
                    .unwrap_or("")
                    .replace("%3A", ":");
                if said != digest.as_str() {
                    return (400, String::new());
                }
                self.keep(format!("{repository}/blobs/{digest}"), "", bytes);
                (201, format!("Docker-Content-Digest: {digest}\r\n"))
            }
            ("PUT", [_]) => {
                let kind = &seen.headers["content-type"];
                let digest = Digest::of(&seen.body);
                let (folder, _) = path.rsplit_once('/').unwrap();
                self.keep(path.to_owned(), kind, seen.body.clone());
                self.keep(format!("{folder}/{digest}"), kind, seen.body.clone());
                (201, format!("Docker-Content-Digest: {digest}\r\n"))
            }
            ("DELETE", [number, _]) => {
                self.uploads.remove(&number.parse().unwrap());
                (204, String::new())
            }
            _ => (405, String::new()),
        }
    }

    fn begin(&mut self, repository: &str, query: &str) -> (u16, String) {
        let query = query.replace("%3A", ":").replace("%2F", "/");
        if let Some((digest, from)) = query
            .strip_prefix("mount=")
            .and_then(|rest| rest.split_once("&from="))
            && let Some((kind, bytes)) = self.objects.get(&format!("/v2/{from}/blobs/{digest}"))
        {
            let (kind, bytes) = (kind.clone(), bytes.clone());
            self.keep(format!("{repository}/blobs/{digest}"), &kind, bytes);
            return (201, String::new());
        }
        self.begun += 1;
        self.uploads.insert(self.begun, Vec::new());
        let place = format!(
            "Location: {repository}/blobs/uploads/{}?state=x\r\n",
            self.begun
        );
        (202, place)
    }

    fn keep(&mut self, path: String, kind: &str, bytes: Vec<u8>) {
        self.objects.insert(path, (kind.to_owned(), bytes));
    }
}
