//! Users are authenticated by the bastion, and impersonated at the API server.

mod support;

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderName, Request};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use spdy_bastion::{Security, UserHeader};
use spdy_kube::{Status, client::Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::support::{OUTPUT, Test, api::Api, client_config, outcome, read};

/// An authority of certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Issued {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, hosts: &[&str], name: &str, group: Option<&str>) -> Issued {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

impl Issued {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

#[tokio::test]
async fn a_token_is_impersonated_for_requests_and_for_streams() {
    let test = Test::start(|config, folder| {
        config.users.tokens = Some(folder.write("tokens", "s3cret,alice,1,\"dev,ops\"\n"));
    });
    let mut test = test.await;
    assert_eq!(test.token, None, "there is no owner");
    assert_eq!(test.get("/version").await.status(), 401);
    test.token = Some("wrong".to_owned());
    assert_eq!(test.get("/version").await.status(), 401);
    assert!(test.api.seen().is_empty());

    test.token = Some("s3cret".to_owned());
    assert_eq!(test.get("/version").await.status(), 202);
    let mut remote = test
        .exec_over(Transport::Spdy, &["echo", "a"], OUTPUT)
        .await
        .unwrap();
    assert_eq!(read(&mut remote.stdout).await, "a");
    let seen = test.api.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(seen.all("impersonate-user"), ["alice"]);
        assert_eq!(seen.all("impersonate-group"), ["dev", "ops"]);
        assert!(seen.all("authorization").is_empty());
    }
    // The first two are of the requests that were refused.
    let audit = test.audit(4).await;
    assert_eq!(
        (&audit[2]["user"], &audit[2]["by"]),
        (&"alice".into(), &"token".into())
    );
}

#[tokio::test]
async fn a_client_certificate_is_impersonated() {
    let authority = Authority::new();
    let alice = authority.issue(&[], "alice", Some("dev"));
    let mut test = Test::start(|config, folder| {
        config.users.authorities = Some(folder.write("ca", &authority.pem()));
        config.users.tokens = Some(folder.write("tokens", ""));
        let server = authority.issue(&["localhost"], "bastion", None);
        config.security = Security::Files {
            chain: folder.write("cert", &server.pem),
            key: folder.write("key", &server.key.serialize_pem()),
        };
    })
    .await;
    let identity = (alice.certificate.clone(), alice.key());
    test.trust(client_config(authority.pem().as_bytes(), Some(identity)));
    assert_eq!(test.get("/version").await.status(), 202);
    let mut remote = test.exec(&["echo", "a"], OUTPUT).await.unwrap();
    assert_eq!(read(&mut remote.stdout).await, "a");
    for seen in test.api.seen() {
        assert_eq!(seen.all("impersonate-user"), ["alice"]);
        assert_eq!(seen.all("impersonate-group"), ["dev"]);
    }

    test.trust(client_config(authority.pem().as_bytes(), None));
    assert_eq!(test.get("/version").await.status(), 401);
    let other = Authority::new().issue(&[], "alice", Some("dev"));
    let identity = (other.certificate.clone(), other.key());
    test.trust(client_config(authority.pem().as_bytes(), Some(identity)));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(test.connect().await.unwrap())
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/version").body(String::new()).unwrap();
    assert!(
        sender.send_request(request).await.is_err(),
        "another authority is not trusted"
    );
}

#[tokio::test]
async fn no_spelling_of_a_field_makes_another_user() {
    let test = Test::start(|config, folder| {
        config.users.tokens = Some(folder.write("tokens", "s3cret,alice\n"));
    });
    let mut test = test.await;
    test.token = Some("s3cret".to_owned());
    for name in [
        "Impersonate-User",
        "impersonate_user",
        "IMPERSONATE-GROUP",
        "Impersonate-Extra-a",
    ] {
        let response = test.send(Request::get("/version"), &[(name, "root")]).await;
        assert_eq!(response.status(), 403, "{name}");
    }
    assert!(test.api.seen().is_empty());
    for (index, fields) in [
        &[("connection", "impersonate-user, close")][..],
        &[
            ("connection", "Impersonate-User"),
            ("connection", "impersonate-group"),
        ],
        &[
            ("x-remote-user", "root"),
            ("X_Remote_Group", "system:masters"),
        ],
        &[
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
        ],
        &[
            ("proxy-authorization", "Basic a"),
            ("authorization_", "Bearer b"),
        ],
        &[("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")],
    ]
    .into_iter()
    .enumerate()
    {
        let response = test.send(Request::get("/version"), fields).await;
        assert_eq!(response.status(), 202, "{fields:?}");
        let seen = &test.api.seen()[index];
        assert_eq!(seen.all("impersonate-user"), ["alice"], "{fields:?}");
        let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
        names.retain(|name| !["host", "impersonate-user", "content-length"].contains(name));
        assert!(names.is_empty(), "{names:?}");
    }
    let two = [
        ("authorization", "Bearer s3cret"),
        ("authorization", "Bearer s3cret"),
    ];
    assert_eq!(
        test.send(Request::get("/version"), &two).await.status(),
        401
    );
    let denied = test.audit(4).await;
    assert_eq!(denied[0]["event"], "denied");
    assert_eq!(denied[0]["user"], "alice");
}

#[tokio::test]
async fn a_proxy_on_loopback_names_the_user_and_others_cannot() {
    let header = UserHeader {
        user: HeaderName::from_static("x-user"),
        groups: Some(HeaderName::from_static("x-group")),
        proxies: Vec::new(),
    };
    let plain = Test::start(|config, _| {
        config.security = Security::Plain;
        config.users.header = Some(header.clone());
    })
    .await;
    let named = [("x-user", "dave"), ("x-group", "a"), ("x-group", "b")];
    assert_eq!(
        plain.send(Request::get("/version"), &named).await.status(),
        202
    );
    let seen = plain.api.only();
    assert_eq!(seen.all("impersonate-user"), ["dave"]);
    assert_eq!(seen.all("impersonate-group"), ["a", "b"]);
    assert!(seen.all("x-user").is_empty() && seen.all("x-group").is_empty());
    for fields in [
        &[][..],
        &[("x-user", "dave"), ("x-user", "root")],
        &[("x-user", "dave"), ("x_user", "root")],
        &[("X_User", "root")],
    ] {
        assert_eq!(
            plain.send(Request::get("/version"), fields).await.status(),
            401,
            "{fields:?}"
        );
    }
    let secured = Test::start(|config, _| config.users.header = Some(header)).await;
    assert_eq!(
        secured
            .send(Request::get("/version"), &named)
            .await
            .status(),
        401
    );
}

#[tokio::test]
async fn pages_in_a_browser_cannot_use_a_bastion_without_credentials() {
    let test = Test::start(|config, _| config.security = Security::Plain).await;
    let own = test.address.to_string();
    for (fields, status) in [
        (&[][..], 202),
        (&[("host", "localhost:1")], 202),
        (
            &[("host", own.as_str()), ("origin", &format!("http://{own}"))],
            202,
        ),
        (
            &[
                ("host", own.as_str()),
                ("origin", "https://elsewhere.example"),
            ],
            403,
        ),
        (&[("host", "rebound.example")], 403),
        (&[("host", "")], 403),
    ] {
        let response = test.send(Request::get("/api/v1/secrets"), fields).await;
        assert_eq!(response.status(), status, "{fields:?}");
    }
}

/// Everyone who can connect can cause these lines, so that there is a limit to them.
/// Returns the response to a request whose target is an absolute URI.
async fn absolute(bastion: SocketAddr, target: &str) -> String {
    let mut connection = TcpStream::connect(bastion).await.unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nhost: {bastion}\r\nconnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn requests_without_a_user_have_audit_lines_up_to_a_rate() {
    let mut test = Test::start(|config, folder| {
        config.security = Security::Plain;
        config.users.tokens = Some(folder.write("tokens", "s3cret,alice\n"));
    })
    .await;
    let long = format!("/api/{}", "a".repeat(1000));
    for (target, token) in [("/version?token=wr0ng", None), (&*long, Some("wr0ng"))] {
        test.token = token.map(str::to_owned);
        assert_eq!(test.get(target).await.status(), 401);
    }
    let lines = test.audit(2).await;
    let fields = ["event", "method", "target", "kind", "reason", "left_out"];
    let of = |line: &Value| fields.map(|field| line[field].clone());
    let expected = [
        json!([
            "refused",
            "GET",
            "/version",
            "credentials",
            "credentials are missing",
            0
        ]),
        json!([
            "refused",
            "GET",
            format!("{}[1005 bytes]", &long[..256]),
            "credentials",
            "bearer token is not valid",
            0
        ]),
    ];
    assert_eq!(
        lines.iter().map(|line| json!(of(line))).collect::<Vec<_>>(),
        expected
    );
    assert!(lines[0]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    let elsewhere = [("origin", "https://elsewhere.example")];
    let page = test.send(Request::get("/version"), &elsewhere).await;
    assert_eq!(page.status(), 403);
    assert_eq!(test.audit(3).await[2]["kind"], "origin");
    let absolute = absolute(
        test.address,
        "http://wr0ng:wr0ng@bastion/version?token=wr0ng",
    )
    .await;
    assert!(absolute.starts_with("HTTP/1.1 401 "), "{absolute}");
    assert_eq!(test.audit(4).await[3]["target"], "/version");

    for _ in 0..300 {
        assert_eq!(test.get("/version").await.status(), 401);
    }
    test.bastion.take().unwrap().shutdown("over").await;
    let lines = test.audit(0).await;
    let has_request = |line: &&Value| line.get("from").is_some();
    let written = lines.iter().filter(has_request).count() as u64;
    let left_out = lines.iter().filter_map(|line| line["left_out"].as_u64());
    assert!((100..304).contains(&written), "{written}");
    assert_eq!(written + left_out.sum::<u64>(), 304);
    let secret = serde_json::to_string(&lines).unwrap();
    assert!(!secret.contains("wr0ng"), "{secret}");
}

#[tokio::test]
async fn the_bastion_proves_itself_to_the_api_server() {
    let authority = Authority::new();
    let bastion = authority.issue(&[], "bastion", None);
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let server = authority.issue(&["kubernetes"], "server", None);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.certificate.clone()], server.key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut api = Api::start_secured(config).await;
    let base64 = |text: &str| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        BASE64_STANDARD.encode(text)
    };
    api.cluster = format!(
        ", tls-server-name: kubernetes, certificate-authority-data: {}",
        base64(&authority.pem())
    );
    api.user = format!(
        "client-certificate-data: {}, client-key-data: {}, token: t0ken",
        base64(&bastion.pem),
        base64(&bastion.key.serialize_pem())
    );
    let test = Test::in_front_of(api, |_, _| {}).await;
    assert_eq!(test.get("/version").await.status(), 202);
    let mut remote = test.exec(&["echo", "a"], OUTPUT).await.unwrap();
    assert_eq!(read(&mut remote.stdout).await, "a");
    assert_eq!(outcome(remote).await, Status::Success);
    let seen = test.api.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(seen.all("authorization"), ["Bearer t0ken"]);
        assert!(seen.all("impersonate-user").is_empty());
    }
}

#[tokio::test]
async fn certificates_and_tokens_are_loaded_again() {
    let authority = Authority::new();
    let mut test = Test::start(|config, folder| {
        config.users.tokens = Some(folder.write("tokens", "one,alice\n"));
        let server = authority.issue(&["localhost"], "bastion", None);
        config.security = Security::Files {
            chain: folder.write("cert", &server.pem),
            key: folder.write("key", &server.key.serialize_pem()),
        };
    })
    .await;
    test.token = Some("one".to_owned());
    test.trust(client_config(authority.pem().as_bytes(), None));
    assert_eq!(test.get("/version").await.status(), 202);

    let other = Authority::new();
    let server = other.issue(&["localhost"], "bastion", None);
    test.folder.write("cert", &server.pem);
    test.folder.write("key", &server.key.serialize_pem());
    test.folder.write("tokens", "three,carol\n");
    test.trust(client_config(other.pem().as_bytes(), None));
    test.token = Some("three".to_owned());
    let loaded = async {
        while test.connect().await.is_err() || test.get("/version").await.status() != 202 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(support::SOON, loaded)
        .await
        .expect("files are loaded again soon");
    assert_eq!(
        test.api.seen().last().unwrap().all("impersonate-user"),
        ["carol"]
    );
    test.token = Some("one".to_owned());
    assert_eq!(test.get("/version").await.status(), 401);
}

/// What changes between the load of a file and the first look at it is not missed.
#[tokio::test]
async fn a_kubeconfig_that_changed_before_the_start_is_loaded_again() {
    let (first, second) = (Api::start().await, Api::start().await);
    let test = Test::in_front_of(first, |_, folder| {
        folder.write("upstream", &format!("{} ", second.kubeconfig()));
    })
    .await;
    let loaded = async {
        while second.seen().is_empty() {
            assert_eq!(test.get("/version").await.status(), 202);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(support::SOON, loaded)
        .await
        .expect("kubeconfig is loaded again soon");
}
