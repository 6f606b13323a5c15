//! The applications of the program: a built-in [site](fn@site), a [directory](fn@directory) of
//! files, and a reverse [proxy](fn@proxy). Each is a cargo feature.

#[cfg(feature = "directory")]
mod directory;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "site")]
mod site;

#[cfg(feature = "directory")]
pub use self::directory::{Directory, DirectoryError, directory};
#[cfg(feature = "proxy")]
pub use self::proxy::{Proxy, Upstream, UpstreamError, Upstreams, UpstreamsError, proxy};
#[cfg(feature = "site")]
pub use self::site::site;
