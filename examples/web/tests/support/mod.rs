//! The application behind spdy-server, with TLS, and clients that trust it.

use spdy_server::{Address, Bind, Certificate, Config, Server};
use spdy_tower::{
    Protocol, Version,
    client::{
        Client, Connector,
        rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer},
    },
};
use spdy_web_examples::{News, app};
use tonic_health::server::HealthReporter;

#[allow(dead_code, reason = "not every test needs all of it")]
pub struct Running {
    pub uri: String,
    pub certificate: CertificateDer<'static>,
    pub news: News,
    pub health: HealthReporter,
}

impl Running {
    pub async fn new() -> Self {
        let config = Config {
            binds: vec![Bind::tls("127.0.0.1:0".parse::<Address>().unwrap())],
            certificate: Certificate::SelfSigned,
            ..Config::default()
        };
        let server = Server::bind(config).await.unwrap();
        let port = server.endpoints()[0].to_string();
        let port = port
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned();
        let certificate = server.certificates().remove(0);
        let news = News::new(8);
        let (health, service) = tonic_health::server::health_reporter();
        let app = app(news.clone(), service);
        tokio::spawn(server.run(app, std::future::pending()));
        Self {
            uri: format!("https://localhost:{port}"),
            certificate,
            news,
            health,
        }
    }

    pub fn tls(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub fn client(&self, protocol: Protocol) -> Client {
        Client::new(Connector::new(self.tls()).offer(&[protocol]))
    }
}

pub const SPDY: [Protocol; 2] = [Protocol::Spdy(Version::V3), Protocol::Spdy(Version::V3_1)];
