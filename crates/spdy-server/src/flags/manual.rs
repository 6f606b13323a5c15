//! The manual page and the shell completions, which are made from the flags.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Flags;

/// Returns the completions or the manual page, or `None` if neither is wanted.
pub(super) fn wanted(completions: Option<Shell>, man: bool) -> Option<Vec<u8>> {
    let mut command = Flags::command();
    let mut text = Vec::new();
    if let Some(shell) = completions {
        clap_complete::generate(shell, &mut command, "spdy-server", &mut text);
    } else if man {
        Man::new(command)
            .render(&mut text)
            .expect("a Vec takes any bytes");
    } else {
        return None;
    }
    Some(text)
}

/// Writes a text to standard output and ends the process, with status 1 if the text cannot be
/// written.
pub(super) fn print_and_exit(text: &[u8]) -> ! {
    let mut out = io::stdout();
    let printed = out.write_all(text).and_then(|()| out.flush());
    std::process::exit(i32::from(printed.is_err()))
}

pub(super) const AFTER_HELP: &str = "\
Examples:
  spdy-server                                   the built-in site at https://localhost:8443/
  spdy-server public/                           the files of public/ at the same address
  spdy-server --listing --compress public/      the same, with lists of directories, and text in gzip
  spdy-server --plain 127.0.0.1:8080            plain text only
  spdy-server --listen 0.0.0.0:443 --cert chain.pem --key key.pem /var/www
  spdy-server --proxy http://127.0.0.1:3000     a reverse proxy
  spdy-server --config /etc/spdy-server.toml

  curl --insecure https://localhost:8443/hello
  curl --http2-prior-knowledge http://127.0.0.1:8080/bytes/1000000 --output /dev/null

A configuration file:
  listen = [\"0.0.0.0:443\", \"[::]:443\"]
  cert = \"chain.pem\"
  key = \"key.pem\"
  proxy = \"http://127.0.0.1:3000\"
  access-log = \"/var/log/spdy-server.log\"
  metrics = \"127.0.0.1:9443\"
  [spdy]
  max-streams = 200
  timeouts.idle = 60

At start the URLs and the certificate's SHA-256 are printed to standard output, each URL at the beginning of a line.

Signals:
  SIGTERM, SIGINT   end after the requests that are under way; a second one ends at once
  SIGHUP            read the certificate again and open the access log again

Restart without losing a request: start the new process, both with --reuse-port, then send SIGTERM to the old one. \
From then on only the new one answers at the address of --metrics. Behind a load balancer set --drain-delay. \
(Linux resets connections that arrive in the instant in which the old one closes its socket. --systemd has no such \
instant.)

Exit status:
  0  ended by a signal, or --check-config has found no mistake
  1  not started: a port in use, an unreadable certificate, a missing directory
  2  a mistake in the arguments or in the configuration file";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_and_the_completions_know_the_flags() {
        let man = String::from_utf8(wanted(None, true).unwrap()).unwrap();
        assert!(
            man.starts_with(".ie") && man.contains("plain\\-version"),
            "{man}"
        );
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(wanted(Some(shell), false).unwrap()).unwrap();
            assert!(text.contains("plain-version"), "{shell}");
        }
        assert_eq!(wanted(None, false), None);
    }
}
