//! The private Unix socket that the plugin serves.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::sys;

/// The socket can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The endpoint names no Unix socket.
    #[error("{endpoint:?} is not the endpoint of a Unix socket: unix:///path/name.sock")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Another process answers there.
    #[error("{} is served by another process", path.display())]
    Served {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is there.
    #[error("{} is there and is no socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error(transparent)]
    System(#[from] sys::Error),
}

/// The path in an endpoint: `unix:///path`, `unix:/path`, or the path alone.
///
/// # Errors
/// When it is not absolute.
pub fn path_of(endpoint: &str) -> Result<PathBuf, SocketError> {
    let path = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => "",
        None => path,
    };
    if path.starts_with('/') && !path.ends_with('/') {
        Ok(path.into())
    } else {
        Err(SocketError::Endpoint {
            endpoint: endpoint.to_owned(),
        })
    }
}

/// A socket that is served; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, for this user alone, in place of a socket that a dead process left there.
    ///
    /// # Errors
    /// When somebody answers there, or something else is there.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let fail = |verb| move |error: std::io::Error| sys::Error::new(verb, path, error);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Endpoint {
                endpoint: path.display().to_string(),
            });
        };
        let dir = sys::Dir::open(parent)?;
        if let Some(stat) = dir.stat(name)? {
            if !is_socket(stat.st_mode) {
                return Err(SocketError::NoSocket {
                    path: path.to_path_buf(),
                });
            }
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::Served {
                    path: path.to_path_buf(),
                });
            }
            dir.remove_file_if_found(name)?;
        }
        let listener = sys::socket::listen_private(path)?;
        let socket = Self {
            path: path.to_path_buf(),
        };
        listener.set_nonblocking(true).map_err(fail("listen at"))?;
        let listener = UnixListener::from_std(listener).map_err(fail("listen at"))?;
        Ok((socket, listener))
    }
}

fn is_socket(mode: u32) -> bool {
    rustix::fs::FileType::from_raw_mode(mode).is_socket()
}

impl Drop for Socket {
    fn drop(&mut self) {
        let removed = self
            .path
            .parent()
            .zip(self.path.file_name())
            .map(|(parent, name)| sys::Dir::open(parent)?.remove_file_if_found(name));
        if let Some(Err(error)) = removed {
            tracing::warn!(error = %super::super::chain(&error), "the socket stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn endpoints_are_paths() {
        for good in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(path_of(good).unwrap(), Path::new("/run/a.sock"), "{good}");
        }
        for bad in [
            "",
            "run/a.sock",
            "unix://run/a.sock",
            "tcp://127.0.0.1:1",
            "unix:///run/",
        ] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("csi.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (socket, listener) = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            Socket::bind(&path),
            Err(SocketError::Served { .. })
        ));
        drop((socket, listener));
        assert!(!path.try_exists().unwrap());
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(
            Socket::bind(&path),
            Err(SocketError::NoSocket { .. })
        ));
    }
}
