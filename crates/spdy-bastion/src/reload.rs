//! Loads files again when they have changed: certificates, authorities, tokens, rules, and the
//! kubeconfig.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Config, Error, Security,
    gateway::Gateway,
    rules::Rules,
    tls::{self, SelfSigned},
    upstream::Upstream,
    users::Authenticator,
};

/// What was made at start, and does not change.
pub(crate) struct Made {
    pub(crate) certificate: Option<SelfSigned>,
    /// The token of the owner.
    pub(crate) token: Option<String>,
}

impl Made {
    /// Makes what the configuration asks for.
    pub(crate) fn new(config: &Config, address: std::net::SocketAddr) -> Result<Self, Error> {
        let certificate = match config.security {
            Security::SelfSigned => Some(SelfSigned::new(address, &config.names)?),
            _ => None,
        };
        let is_owned = config.users.is_empty() && config.security != Security::Plain;
        let token = is_owned.then(|| {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).expect("the system has random numbers");
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        });
        Ok(Self { certificate, token })
    }

    pub(crate) fn users(&self, config: &Config) -> Result<Authenticator, Error> {
        let is_open = config.users.is_empty() && config.security == Security::Plain;
        Authenticator::load(&config.users, self.token.as_deref(), is_open)
    }

    pub(crate) fn rules(config: &Config) -> Result<Rules, Error> {
        config
            .rules
            .as_deref()
            .map_or_else(|| Ok(Rules::default()), Rules::load)
    }
}

/// Files, with their state when they were loaded.
struct Watched {
    what: &'static str,
    files: Vec<PathBuf>,
    loaded: Vec<State>,
    /// The state at the last look. Files that belong together are not replaced at one instant, so
    /// they are loaded when they are the same in two looks.
    seen: Vec<State>,
    /// Whether the last load failed. Then each look tries again, because the reason might have been
    /// temporary and the files might not change again.
    is_overdue: bool,
}

/// The version of a file. `None` if the file cannot be found.
pub(crate) type State = Option<Version>;

/// What distinguishes the versions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    modified: SystemTime,
    length: u64,
    /// The device and the number of the file. Another file has others, also one that was renamed to
    /// this path with an old time, or to which a link of Kubernetes (`..data`) now leads.
    file: [u64; 2],
    /// When the file, or the right to read it, was last changed. No program can set this back.
    changed: [i64; 2],
}

/// A file, with its state just before it was loaded.
pub(crate) type Loaded = (PathBuf, State);

impl Watched {
    /// Watches files that will be loaded now.
    fn new(what: &'static str, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let loaded = files.into_iter().map(|path| {
            let state = state(&path);
            (path, state)
        });
        Self::loaded(what, loaded)
    }

    /// Watches files that were loaded.
    fn loaded(what: &'static str, files: impl IntoIterator<Item = Loaded>) -> Self {
        let (files, states): (_, Vec<_>) = files.into_iter().unzip();
        Self {
            what,
            files,
            loaded: states.clone(),
            seen: states,
            is_overdue: false,
        }
    }

    /// Checks that no file is a pipe, because reading that again would wait forever.
    fn are_files(&self) -> Result<(), Error> {
        for path in &self.files {
            if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
                let reason = io::Error::other("it is not a file, so it is read only once");
                return Err(Error::read(path, reason));
            }
        }
        Ok(())
    }

    /// Returns whether the files have changed, once for each change.
    fn has_changed(&mut self) -> bool {
        let now = look(&self.files);
        let is_at_rest = now == self.seen;
        self.seen.clone_from(&now);
        if !is_at_rest || now == self.loaded {
            return false;
        }
        self.loaded = now;
        true
    }
}

fn look(files: &[PathBuf]) -> Vec<State> {
    files.iter().map(|path| state(path)).collect()
}

/// Returns the state of a file. Ask for it before the file is loaded, so that no change is missed.
pub(crate) fn state(path: &Path) -> State {
    let file = fs::metadata(path).ok()?;
    Some(Version {
        modified: file.modified().ok()?,
        length: file.len(),
        file: [file.dev(), file.ino()],
        changed: [file.ctime(), file.ctime_nsec()],
    })
}

/// Everything that is loaded again.
pub(crate) struct Watches {
    tls: Watched,
    tokens: Watched,
    rules: Watched,
    upstream: Watched,
}

impl Watches {
    /// Watches the files of a configuration, which will be loaded now. The kubeconfig was loaded.
    pub(crate) fn new(config: &Config) -> Self {
        let Config {
            users, security, ..
        } = &config;
        let certificates = match security {
            Security::Files { chain, key } => vec![chain.clone(), key.clone()],
            _ => Vec::new(),
        };
        let authorities = users.authorities.clone();
        Self {
            tls: Watched::new("certificate", certificates.into_iter().chain(authorities)),
            tokens: Watched::new("tokens", users.tokens.clone()),
            rules: Watched::new("rules", config.rules.clone()),
            upstream: Watched::loaded("kubeconfig", config.upstream.files.clone()),
        }
    }
}

/// Looks at the files again and again, and loads those that have changed. A file that is not valid
/// changes nothing.
pub(crate) async fn run(
    mut config: Config,
    made: Made,
    mut watches: Watches,
    gateway: Arc<Gateway>,
) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        gateway.reload(&mut watches.tls, || {
            let loaded = tls::load(&config, made.certificate.as_ref())?;
            Ok(move |gateway: &Gateway| gateway.set_tls(loaded))
        });
        gateway.reload(&mut watches.tokens, || {
            let loaded = made.users(&config)?;
            Ok(move |gateway: &Gateway| gateway.users.set(loaded))
        });
        gateway.reload(&mut watches.rules, || {
            let loaded = Made::rules(&config)?;
            Ok(move |gateway: &Gateway| gateway.rules.set(loaded))
        });
        let mut kubeconfig = None;
        gateway.reload(&mut watches.upstream, || {
            let loaded = config.upstream.reload()?;
            let upstream = Upstream::new(&loaded, config.limits.connect)?;
            kubeconfig = Some(loaded);
            Ok(move |gateway: &Gateway| gateway.upstream.set(upstream))
        });
        if let Some(kubeconfig) = kubeconfig {
            watches.upstream = Watched::loaded("kubeconfig", kubeconfig.files.clone());
            config.upstream = kubeconfig;
        }
    }
}

impl Gateway {
    fn reload<S: FnOnce(&Self)>(
        &self,
        watched: &mut Watched,
        load: impl FnOnce() -> Result<S, Error>,
    ) {
        let has_changed = watched.has_changed();
        if !has_changed && !watched.is_overdue {
            return;
        }
        let what = watched.what;
        let outcome = watched.are_files().and_then(|()| load());
        watched.is_overdue = outcome.is_err();
        match outcome {
            Ok(set) => {
                set(self);
                tracing::info!(what, "file is loaded again");
            }
            Err(error) => {
                self.metrics.reload_failed();
                if !has_changed {
                    return;
                }
                let why = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(what, %error, why, "file is not valid, the old one is used");
            }
        }
    }
}

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noticed_once_when_it_is_over() {
        let path = std::env::temp_dir().join(format!("spdy-bastion-watch-{}", std::process::id()));
        fs::write(&path, "1").unwrap();
        let mut watched = Watched::new("file", [path.clone()]);
        assert!(!watched.has_changed());
        fs::write(&path, "22").unwrap();
        assert!(!watched.has_changed());
        assert!(watched.has_changed());
        assert!(!watched.has_changed());
        fs::remove_file(&path).unwrap();
        assert!(!watched.has_changed());
        assert!(watched.has_changed());
        assert!(!Watched::new("nothing", []).has_changed());
    }

    #[test]
    fn another_file_of_the_same_length_and_time_is_noticed() {
        let path = std::env::temp_dir().join(format!("spdy-bastion-alike-{}", std::process::id()));
        let next = path.with_extension("next");
        let time = SystemTime::now() - Duration::from_secs(60);
        let write = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        };
        write(&path, "1");
        let mut watched = Watched::new("file", [path.clone()]);
        assert!(!watched.has_changed());
        write(&next, "2");
        fs::rename(&next, &path).unwrap();
        assert!(!watched.has_changed());
        assert!(watched.has_changed());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_read_again() {
        let path = std::env::temp_dir().join(format!("spdy-bastion-pipe-{}", std::process::id()));
        fs::write(&path, "1").unwrap();
        let watched = Watched::new("file", [path.clone()]);
        assert!(watched.are_files().is_ok());
        fs::remove_file(&path).unwrap();
        assert!(watched.are_files().is_ok(), "reading it says what is wrong");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(watched.are_files().is_err());
        fs::remove_file(&path).unwrap();
    }
}
