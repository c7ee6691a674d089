//! TLS that the node ends itself: who it proves to be, and that a new certificate cuts nobody off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use http::StatusCode;
use parts::backend::Backend;
use parts::deployment::open_backend;
use parts::process::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tailrace_tests::front::{addresses, bounded};
use tailrace_tests::{Admin, Database, Front, Request, soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// An authority of the test's own, and the files that the node reads.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let authority = Self { issuer, folder: tempfile::tempdir().expect("a folder") };
        authority.issue();
        authority
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes another certificate for `localhost`, and gives it as a client sees it.
    fn issue(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.key(), key.serialize_pem()).expect("written");
        std::fs::write(self.certificate(), certificate.pem()).expect("written");
        certificate.der().clone()
    }

    fn connector(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, backend: &Backend) -> TlsStream<TcpStream> {
        let connector = self.connector(rustls::ALL_VERSIONS);
        let stream = TcpStream::connect(("127.0.0.1", backend.port())).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        soon("a handshake", connector.connect(name, stream)).await.expect("a handshake")
    }

    /// The certificate that the node shows to who comes now.
    async fn shown(&self, backend: &Backend) -> CertificateDer<'static> {
        let stream = self.connect(backend).await;
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("a certificate")[0].clone().into_owned()
    }
}

struct Node {
    authority: Authority,
    backend: Backend,
    admin: Admin,
    database: Database,
}

impl Node {
    async fn start(name: &str) -> Self {
        let authority = Authority::new();
        let (options, admin) = Admin::of(open_backend(name, &addresses().await.mongodb));
        let path = |path: &Path| path.display().to_string();
        let options = options
            .set("TAILRACE_TLS__CERTIFICATE", path(&authority.certificate()))
            .set("TAILRACE_TLS__KEY", path(&authority.key()))
            .set("TAILRACE_LIMITS__HEADER_TIMEOUT_MS", "500");
        let backend = Backend::start(options).await.expect("a backend");
        let database = Front::Native.database().await;
        let properties = bson::doc! { "_id": "_properties.log", "streams": [{ "uri": "all", "stages": [] }] };
        database.mongo.create_collection("log").await.expect("a collection");
        database.mongo.collection("_properties").insert_one(properties).await.expect("metadata");
        Self { authority, backend, admin, database }
    }

    async fn web_socket(&self) -> WebSocketStream<TlsStream<TcpStream>> {
        let mut stream = self.authority.connect(&self.backend).await;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.database.path("log/_streams/all")
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the head of an answer", stream.read_u8()).await.expect("a byte"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        WebSocketStream::from_raw_socket(stream, Role::Client, None).await
    }

    async fn write(&self, n: i32) {
        self.database.mongo.collection("log").insert_one(bson::doc! { "n": n }).await.expect("a write");
    }
}

async fn event(socket: &mut WebSocketStream<TlsStream<TcpStream>>) -> serde_json::Value {
    match soon("an event", socket.next()).await.expect("open").expect("a message") {
        Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("an event was expected, and this came: {other:?}"),
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_and_sockets_live_on() {
    bounded(Box::pin(async {
        let node = Node::start("tls-reload").await;
        let mut socket = node.web_socket().await;
        node.write(1).await;
        assert_eq!(event(&mut socket).await["fullDocument"]["n"], 1);

        // By itself, when the files change.
        let second = node.authority.issue();
        until("the new certificate is shown", async || node.authority.shown(&node.backend).await == second)
            .await;
        // What cannot be served changes nothing, and is told.
        std::fs::write(node.authority.key(), "half a file").expect("written");
        node.backend.process().expect("it runs").signal(Signal::HUP).expect("a signal");
        until("the log tells of it", async || {
            node.backend.logged().contains("the certificate is not replaced")
        })
        .await;
        assert_eq!(node.authority.shown(&node.backend).await, second);
        // At once, on SIGHUP.
        let third = node.authority.issue();
        node.backend.process().expect("it runs").signal(Signal::HUP).expect("a signal");
        until("the new certificate is shown", async || node.authority.shown(&node.backend).await == third)
            .await;

        let mut late = node.web_socket().await;
        node.write(2).await;
        assert_eq!(event(&mut socket).await["fullDocument"]["n"], 2, "the first socket lives on");
        assert_eq!(event(&mut late).await["fullDocument"]["n"], 2);
    }))
    .await;
}

#[tokio::test]
async fn it_speaks_http_1_1_over_tls_1_2_and_1_3() {
    bounded(async {
        let node = Node::start("tls-versions").await;
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let stream = TcpStream::connect(("127.0.0.1", node.backend.port())).await.expect("a connection");
            let name = ServerName::try_from("localhost").expect("a name");
            let connected = node.authority.connector(&[version]).connect(name, stream);
            let mut stream = soon("a handshake", connected).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
            stream
                .write_all(b"GET /_health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await
                .expect("sent");
            let mut answer = Vec::new();
            let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        }
        // Plain HTTP gets no answer that a client could take for one.
        assert!(Request::get("/_health").send(&node.backend.url()).await.is_err());
        // Operators ask without TLS.
        let answer = Request::get("/_health").send(&node.admin.url).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_a_connection_that_is_closed() {
    bounded(async {
        let node = Node::start("tls-handshake").await;
        let mut stream = TcpStream::connect(("127.0.0.1", node.backend.port())).await.expect("a connection");
        // The beginning of a record that never ends.
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.expect("sent");
        node.admin.shows("connections", 1.0).await;
        let mut rest = Vec::new();
        let _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
        node.admin.shows("connections", 0.0).await;
        node.admin.shows(r#"limit_hits_total{limit="header-timeout-ms"}"#, 1.0).await;
    })
    .await;
}
