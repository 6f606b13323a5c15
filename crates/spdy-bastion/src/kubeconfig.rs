//! Reads a kubeconfig, and writes the one for clients of the bastion.

mod fields;

use std::{fmt, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Uri;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use serde_json::json;
use yaml_rust2::YamlLoader;

use self::fields::Fields;
use crate::{
    Error,
    reload::{Loaded, state},
};

/// The API server behind a bastion, and the credentials for it.
///
/// They come from a context of a kubeconfig. The bastion does not run programs that print
/// credentials, and does not use proxies; a context that needs these is refused.
pub struct Kubeconfig {
    pub(crate) server: Uri,
    pub(crate) tls: Option<Tls>,
    pub(crate) token: Option<String>,
    /// The file, and those that it names.
    pub(crate) files: Vec<Loaded>,
    options: KubeconfigOptions,
}

/// How a kubeconfig is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeconfigOptions {
    /// The context. `None` is the current context of the file.
    pub context: Option<String>,
    /// Whether `insecure-skip-tls-verify` is accepted. Without this such a context is refused.
    pub insecure: bool,
}

/// How the API server proves itself, and the bastion to it.
pub(crate) struct Tls {
    /// The certificates that are trusted. `None` means those that the system trusts.
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// The name in the certificate of the API server, if it is not the host of the URL.
    pub(crate) name: Option<String>,
    /// Whether the certificate of the API server is not verified.
    pub(crate) is_insecure: bool,
}

impl Kubeconfig {
    /// Loads a context of a kubeconfig.
    ///
    /// # Errors
    ///
    /// The file or one that it names cannot be read, or the context needs something that the
    /// bastion does not support. Then the text names the field.
    pub fn load(path: &Path, options: KubeconfigOptions) -> Result<Self, Error> {
        let loaded = (path.to_owned(), state(path));
        let text = fs::read_to_string(path).map_err(|error| Error::read(path, error))?;
        Self::parse(loaded, &text, options).map_err(|error| error.of(path))
    }

    /// Loads the same context again.
    pub(crate) fn reload(&self) -> Result<Self, Error> {
        Self::load(&self.files[0].0, self.options.clone())
    }

    fn parse(file: Loaded, text: &str, options: KubeconfigOptions) -> Result<Self, Error> {
        let documents = YamlLoader::load_from_str(text)
            .map_err(|error| Error::because("kubeconfig is not YAML", error))?;
        let [document] = &documents[..] else {
            return Err(Error::new("kubeconfig is not one document of YAML"));
        };
        let root = Fields::new(document, &file.0);
        let current = root.text("current-context")?;
        let Some(context) = options.context.clone().or(current) else {
            return Err(Error::new("kubeconfig has no current context: name one"));
        };
        let context = root.named("contexts", &context, "context")?;
        let cluster = context.required("cluster")?;
        let cluster = root.named("clusters", &cluster, "cluster")?;
        let user = match context.text("user")? {
            Some(user) => Some(root.named("users", &user, "user")?),
            None => None,
        };
        let (server, tls) = read_cluster(&cluster, &options)?;
        let mut config = Self {
            server,
            tls,
            token: None,
            files: Vec::new(),
            options,
        };
        let mut files = cluster.files();
        if let Some(user) = &user {
            config.read_user(user)?;
            files.extend(user.files());
        }
        config.files.push(file);
        config.files.extend(files);
        Ok(config)
    }

    fn read_user(&mut self, user: &Fields<'_>) -> Result<(), Error> {
        user.refuse(&UNSUPPORTED_OF_USERS)?;
        let chain = user.bytes("client-certificate-data", "client-certificate")?;
        let key = user.bytes("client-key-data", "client-key")?;
        self.token = match user.text("token")? {
            Some(token) => Some(token),
            None => user.file("tokenFile")?.map(|token| token.trim().to_owned()),
        };
        let identity = match (chain, key) {
            (Some(chain), Some(key)) => Some((
                certificates(&chain, "client certificate")?,
                PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|error| invalid_pem("client key", error))?,
            )),
            (None, None) => None,
            _ => {
                return Err(Error::new(
                    "a client certificate and its key belong together",
                ));
            }
        };
        match &mut self.tls {
            Some(tls) => tls.identity = identity,
            None if identity.is_none() && self.token.is_none() => {}
            None => {
                return Err(Error::new(
                    "credentials are not sent to a server without TLS",
                ));
            }
        }
        Ok(())
    }
}

/// Shows no credentials.
impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

fn read_cluster(
    cluster: &Fields<'_>,
    options: &KubeconfigOptions,
) -> Result<(Uri, Option<Tls>), Error> {
    cluster.refuse(&["proxy-url"])?;
    let server = cluster.required("server")?;
    let invalid = || Error::new("`server` is not a URL of http or https");
    let server: Uri = server.parse().map_err(|_| invalid())?;
    let has_credentials = server
        .authority()
        .is_none_or(|it| it.as_str().contains('@'));
    if server.host().is_none_or(str::is_empty) || server.query().is_some() || has_credentials {
        return Err(invalid());
    }
    match server.scheme_str() {
        Some("http") => return Ok((server, None)),
        Some("https") => {}
        _ => return Err(invalid()),
    }
    let is_insecure = cluster.flag("insecure-skip-tls-verify")?;
    if is_insecure && !options.insecure {
        let text = "`insecure-skip-tls-verify` is refused: ask for it with `--insecure-upstream`";
        return Err(Error::new(text));
    }
    let roots = cluster.bytes("certificate-authority-data", "certificate-authority")?;
    let roots = roots.map(|roots| certificates(&roots, "certificate authority"));
    let tls = Tls {
        roots: roots.transpose()?,
        identity: None,
        name: cluster.text("tls-server-name")?,
        is_insecure,
    };
    Ok((server, Some(tls)))
}

/// Parses certificates in PEM. There has to be one at least.
pub(crate) fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::new(format!("{what} contains no certificate in PEM"))),
        Err(error) => Err(invalid_pem(what, error)),
    }
}

/// Returns the error for a text that is not valid PEM.
pub(crate) fn invalid_pem(what: &str, error: pem::Error) -> Error {
    match error {
        // These errors print the line as a list of numbers.
        pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => {
            Error::new(format!(
                "{what} is not complete: a line `-----BEGIN …-----` or `-----END …-----` is cut \
                 off; copy the whole file again"
            ))
        }
        error => Error::because(format!("{what} is not valid PEM"), error),
    }
}

/// Returns the kubeconfig for a client of the bastion: its URL, the certificate that it has made at
/// start, and the token of its owner.
pub(crate) fn for_clients(url: &str, authority: Option<&str>, token: Option<&str>) -> String {
    let mut cluster = json!({"server": url});
    if let Some(pem) = authority {
        cluster["certificate-authority-data"] = BASE64_STANDARD.encode(pem).into();
    }
    let mut user = json!({});
    if let Some(token) = token {
        user["token"] = token.into();
    }
    let context = json!({"cluster": NAME, "user": NAME});
    // JSON is YAML, and needs no other rules for what must be quoted.
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {NAME}\n\
         clusters:\n- name: {NAME}\n  cluster: {cluster}\n\
         contexts:\n- name: {NAME}\n  context: {context}\n\
         users:\n- name: {NAME}\n  user: {user}\n"
    )
}

/// Ways to get credentials that the bastion does not support. To ignore `as` would give more rights
/// than the file does.
const UNSUPPORTED_OF_USERS: [&str; 8] = [
    "exec",
    "auth-provider",
    "username",
    "password",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
];

const NAME: &str = "spdy-bastion";

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, options: KubeconfigOptions) -> Result<Kubeconfig, String> {
        let parsed = Kubeconfig::parse(("/k/config".into(), None), text, options);
        parsed.map_err(|error| error.to_string())
    }

    fn file(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             contexts:\n- {{name: b, context: {{cluster: other}}}}\n\
             - name: a\n  context:\n    cluster: c\n    user: u\n\
             clusters:\n- name: c\n  cluster: {cluster}\nusers:\n- name: u\n  user: {user}\n"
        )
    }

    #[test]
    fn a_context_is_read() {
        let text = file(
            "{server: 'https://h:6443/k8s', tls-server-name: kube}",
            "{token: t}",
        );
        let config = load(&text, KubeconfigOptions::default()).unwrap();
        assert_eq!(config.server, "https://h:6443/k8s");
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(
            (tls.name.as_deref(), tls.is_insecure),
            (Some("kube"), false)
        );
        assert_eq!(config.token.as_deref(), Some("t"));
        assert!(!format!("{config:?}").contains("token"));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_name() {
        let https = "{server: 'https://h'}";
        for (cluster, user, expected) in [
            (
                "{server: 'https://h', proxy-url: 'http://p'}",
                "{}",
                "`proxy-url`",
            ),
            (
                "{server: 'https://h', insecure-skip-tls-verify: true}",
                "{}",
                "--insecure-upstream",
            ),
            (
                "{server: 'https://h', insecure-skip-tls-verify: 1}",
                "{}",
                "`insecure-skip-tls-",
            ),
            ("{server: 'ftp://h'}", "{}", "`server`"),
            ("{server: 'https://u:p@h'}", "{}", "`server`"),
            ("{server: 7}", "{}", "`server`"),
            ("{}", "{}", "`server`"),
            ("{server: 'http://h'}", "{token: t}", "without TLS"),
            (https, "{exec: {command: aws}}", "`exec`"),
            (https, "{token: t, as: root}", "`as`"),
            (https, "{username: a, password: b}", "`username`"),
            (https, "{client-certificate-data: AAAA}", "belong together"),
            (
                https,
                "{client-certificate-data: '%', client-key-data: AAAA}",
                "base64",
            ),
            (https, "{tokenFile: /does/not/exist}", "/does/not/exist"),
            (https, "[]", "user"),
        ] {
            let message = load(&file(cluster, user), KubeconfigOptions::default()).unwrap_err();
            assert!(message.contains(expected), "{expected} in {message}");
        }
        for (text, expected) in [
            ("", "one document"),
            ("a: [", "not YAML"),
            ("a: 1\n---\nb: 2", "one document"),
            ("contexts: []", "no current context"),
            ("current-context: x", "context `x`"),
        ] {
            let message = load(text, KubeconfigOptions::default()).unwrap_err();
            assert!(message.contains(expected), "{expected} in {message}");
        }
        let other = KubeconfigOptions {
            context: Some("b".to_owned()),
            insecure: false,
        };
        let message = load(&file(https, "{}"), other).unwrap_err();
        assert!(message.contains("cluster `other`"), "{message}");
    }

    #[test]
    fn a_server_that_is_not_verified_has_to_be_asked_for() {
        let text = file(
            "{server: 'https://h', insecure-skip-tls-verify: true}",
            "{}",
        );
        let options = KubeconfigOptions {
            context: None,
            insecure: true,
        };
        assert!(load(&text, options).unwrap().tls.unwrap().is_insecure);
    }

    #[test]
    fn the_kubeconfig_for_clients_can_be_read() {
        let text = for_clients("https://127.0.0.1:6444", None, Some("a\"b"));
        let config = load(&text, KubeconfigOptions::default()).unwrap();
        assert_eq!(config.server, "https://127.0.0.1:6444");
        assert_eq!(config.token.as_deref(), Some("a\"b"));
        let text = for_clients("http://127.0.0.1:6444", None, None);
        assert!(
            load(&text, KubeconfigOptions::default())
                .unwrap()
                .tls
                .is_none()
        );
    }
}
