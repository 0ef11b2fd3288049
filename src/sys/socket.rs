//! Unix sockets that nobody else may connect to, from the moment that their name exists.

use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{self, Mode};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Error;

const BACKLOG: i32 = 128;

/// Listens at `path` with mode 0600.
///
/// The kernel gives the new file the mode of the socket, less the umask: so the mode is set first,
/// and there is no moment in which others may connect.
///
/// # Errors
/// When the name exists or can't be made.
pub fn listen_private(path: &Path) -> Result<UnixListener, Error> {
    let fail = |errno| Error::new("listen at", path, errno);
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(fail)?;
    fs::fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(fail)?;
    net::bind(&socket, &SocketAddrUnix::new(path).map_err(fail)?).map_err(fail)?;
    net::listen(&socket, BACKLOG).map_err(fail)?;
    Ok(socket.into())
}
