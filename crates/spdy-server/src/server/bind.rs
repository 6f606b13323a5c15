//! The start of a server: its sockets, its certificate, its access log.

use std::{io, sync::Arc};

use super::{Reload, Server, StartError};
use crate::{
    access_log::Log,
    config::{AccessLog, AccessLogFormat, Address, Bind, Certificate, Config, Transport},
    listener::{Inherited, Listener},
    tls::{Tls, Watch},
};

impl Server {
    pub(super) async fn bind_in(
        build: Build,
        config: Config,
        inherited: Inherited,
    ) -> Result<Self, StartError> {
        build.check(&config, false)?;
        let (mut listeners, activated) =
            Listener::inherited(inherited).map_err(StartError::Inherited)?;
        if activated.is_some() && !build.has_metrics {
            return Err(StartError::Feature("metrics"));
        }
        let mut left_out = Vec::new();
        for bind in &config.binds {
            match Listener::bind(bind, config.reuse_port, config.socket_files) {
                Ok(listener) => listeners.push(listener),
                Err(error) if !bind.required && is_absent(&error) => {
                    left_out.push(bind.address.clone());
                }
                Err(source) => return Err(cannot_listen(&bind.address, source)),
            }
        }
        if listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let metrics = match (activated, &config.metrics) {
            (Some(_), Some(_)) => return Err(StartError::Inherited(two_for_metrics())),
            (None, Some(address)) => Some(listen_for_metrics(address, &config)?),
            (activated, None) => activated,
        };
        let endpoints: Vec<_> = listeners
            .iter()
            .map(|listener| listener.endpoint().clone())
            .collect();
        let needs_tls = endpoints
            .iter()
            .any(|endpoint| endpoint.transport == Transport::Tls);
        build.check(&config, needs_tls)?;
        // The watch starts before the files are read, so that it notices a change in between.
        let watch = needs_tls.then(|| Watch::new(&config.certificate)).flatten();
        let tls = needs_tls.then(|| load(&config.certificate)).transpose()?;
        let log = match &config.access_log {
            Some(target) => Some(Arc::new(open_log(target, config.access_log_format)?)),
            None => None,
        };
        Ok(Self {
            config,
            listeners,
            endpoints,
            left_out,
            metrics,
            tls,
            watch,
            log,
            reload: Reload::default(),
            runtimes: Vec::new(),
            timers: None,
            readiness: None,
            #[cfg(feature = "proxy")]
            upstreams: None,
        })
    }
}

/// The features of a build that a configuration can need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Build {
    has_tls: bool,
    has_metrics: bool,
}

impl Build {
    pub(super) const THIS: Self = Self {
        has_tls: cfg!(feature = "rustls"),
        has_metrics: cfg!(feature = "metrics"),
    };

    pub(super) fn check(self, config: &Config, needs_tls: bool) -> Result<(), StartError> {
        if config.metrics.is_some() && !self.has_metrics {
            return Err(StartError::Feature("metrics"));
        }
        if needs_tls && !self.has_tls {
            return Err(StartError::Feature("tls"));
        }
        Ok(())
    }
}

#[cfg(feature = "rustls")]
pub(super) fn load(certificate: &Certificate) -> Result<Arc<Tls>, StartError> {
    Ok(Arc::new(Tls::new(certificate)?))
}

#[cfg(not(feature = "rustls"))]
pub(super) fn load(_: &Certificate) -> Result<Arc<Tls>, StartError> {
    unreachable!("a server with a TLS listener does not start in this build")
}

fn two_for_metrics() -> io::Error {
    io::Error::other("it is for metrics, which have an address in the configuration, too")
}

fn listen_for_metrics(address: &Address, config: &Config) -> Result<Listener, StartError> {
    let bind = Bind::plain(address.clone());
    Listener::bind(&bind, config.reuse_port, config.socket_files)
        .map_err(|source| cannot_listen(address, source))
}

fn cannot_listen(address: &Address, source: io::Error) -> StartError {
    StartError::Listen {
        address: address.clone(),
        source,
    }
}

fn open_log(target: &AccessLog, format: AccessLogFormat) -> Result<Log, StartError> {
    Log::open(target, format).map_err(|source| StartError::AccessLog {
        path: match target {
            AccessLog::Stdout => "standard output".into(),
            AccessLog::File(path) => path.clone(),
        },
        source,
    })
}

/// Returns whether binding failed because the machine does not have the address, or its address
/// family.
fn is_absent(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn a_build_without_a_feature_that_is_needed_says_which() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let with = |bind| Config {
            binds: vec![bind],
            ..Config::default()
        };
        let plain = with(Bind::plain(loopback));
        let measured = Config {
            metrics: Some(loopback.into()),
            ..plain.clone()
        };
        let tls = with(Bind::tls(loopback));
        let few = Build {
            has_tls: false,
            has_metrics: false,
        };
        for (config, feature) in [(measured, "metrics"), (tls, "tls")] {
            let error = Server::bind_in(few, config, Inherited::default()).await;
            let error = error.unwrap_err();
            assert!(matches!(error, StartError::Feature(name) if name == feature));
            let text = format!("this build does not have the feature `{feature}`");
            assert_eq!(error.to_string(), text);
        }
        let server = Server::bind_in(few, plain, Inherited::default()).await;
        assert_eq!(server.unwrap().endpoints().len(), 1);
    }
}
