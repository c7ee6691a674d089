//! TLS (rustls): the certificate of the public listener, and its reload while connections live on.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use serde::Deserialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at. Tools replace them in many ways (a write, a rename, a link that turns): reading them is
/// the one way to see all of these.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// `tls.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsConfig {
    /// A PEM file: the server's certificate, then those between it and the root. Default: no TLS.
    pub certificate: Option<PathBuf>,
    /// A PEM file: the key of the certificate (PKCS#8, PKCS#1, or SEC1).
    pub key: Option<PathBuf>,
}

/// The files as they were read. The key never shows in a log.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

/// A certificate that is served, and where it comes from.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    serving: RwLock<Arc<ServerConfig>>,
    /// What was tried last, so that a fault is told once.
    tried: Mutex<Option<Files>>,
}

impl Tls {
    /// Reads the files; `None` where none are configured. The error names the key and what it takes.
    pub fn new(config: &TlsConfig) -> Result<Option<Arc<Self>>, String> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => {
                return Err("tls.key is not set, expected the key of tls.certificate".to_owned());
            }
            (None, Some(_)) => return Err("tls.certificate is not set, expected that of tls.key".to_owned()),
        };
        let files = Files::read(&certificate, &key)?;
        let serving = RwLock::new(Arc::new(files.check()?));
        Ok(Some(Arc::new(Self { certificate, key, serving, tried: Mutex::new(Some(files)) })))
    }

    /// What makes the next handshake, with the certificate of this moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Looks at the files, and serves what is in them from the next handshake on. What cannot be served changes nothing.
    /// Returns whether another certificate is served now.
    pub fn reload(&self) -> bool {
        match self.try_reload() {
            Ok(changed) => {
                if changed {
                    tracing::info!("serving another certificate");
                }
                changed
            }
            Err(why) => {
                tracing::error!(%why, "the certificate is not replaced: the one before is served still");
                false
            }
        }
    }

    fn try_reload(&self) -> Result<bool, String> {
        let read = Files::read(&self.certificate, &self.key);
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if read.as_ref().ok() == tried.as_ref() {
            return Ok(false);
        }
        *tried = read.as_ref().ok().cloned();
        let checked = read?.check()?;
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(checked);
        Ok(true)
    }
}

/// Follows the files for ever, and looks at once on SIGHUP.
pub async fn follow(tls: Arc<Tls>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP is not heard");
            None
        }
    };
    let mut looks = interval(LOOKS_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = looks.tick() => {}
            _ = asked => tracing::info!("SIGHUP: looking at the certificate"),
        }
        let tls = Arc::clone(&tls);
        // Files may lie on a disk that hangs.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let read = |name: &str, path: &Path| {
            std::fs::read(path)
                .map_err(|error| format!("{name} is {}, expected a PEM file: {error}", path.display()))
        };
        Ok(Self { certificate: read("tls.certificate", certificate)?, key: read("tls.key", key)? })
    }

    fn check(&self) -> Result<ServerConfig, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("tls.certificate is no PEM file: {error}"))?;
        if chain.is_empty() {
            return Err("tls.certificate holds no certificate, expected a chain in PEM".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| format!("tls.key holds no private key in PEM: {error}"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| format!("tls: {error}"))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("tls.key and tls.certificate cannot be served together: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    struct Pair {
        _folder: tempfile::TempDir,
        config: TlsConfig,
    }

    impl Pair {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| Some(folder.path().join(name));
            let config = TlsConfig { certificate: path("chain.pem"), key: path("key.pem") };
            let pair = Self { _folder: folder, config };
            pair.replace();
            pair
        }

        /// Another certificate with its key.
        fn replace(&self) {
            let (certificate, key) = generated();
            self.write(&certificate, &key);
        }

        fn write(&self, certificate: &str, key: &str) {
            let path = |path: &Option<PathBuf>| path.clone().expect("a path");
            std::fs::write(path(&self.config.certificate), certificate).expect("written");
            std::fs::write(path(&self.config.key), key).expect("written");
        }
    }

    fn generated() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_replaced_when_its_files_change_and_only_then() {
        let pair = Pair::new();
        let tls = Tls::new(&pair.config).expect("good").expect("configured");
        let serving = || Arc::as_ptr(&tls.serving.read().expect("not poisoned"));
        let first = serving();
        assert!(!tls.reload(), "nothing has changed");
        assert_eq!(serving(), first);
        pair.replace();
        assert!(tls.reload());
        assert_ne!(serving(), first);
    }

    #[test]
    fn what_cannot_be_served_leaves_the_certificate_as_it_is() {
        let pair = Pair::new();
        let tls = Tls::new(&pair.config).expect("good").expect("configured");
        let serving = || Arc::as_ptr(&tls.serving.read().expect("not poisoned"));
        let first = serving();
        let (certificate, _) = generated();
        let (_, key) = generated();
        for (certificate, key) in
            [(certificate.as_str(), key.as_str()), ("", key.as_str()), (certificate.as_str(), "no key")]
        {
            pair.write(certificate, key);
            assert!(!tls.reload());
            assert_eq!(serving(), first);
        }
        pair.replace();
        assert!(tls.reload(), "and it is replaced once the files are good again");
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_it_takes() {
        let pair = Pair::new();
        let fault = |config: TlsConfig| Tls::new(&config).map(drop).expect_err("a fault");
        assert_eq!(
            fault(TlsConfig { key: None, ..pair.config.clone() }),
            "tls.key is not set, expected the key of tls.certificate"
        );
        assert_eq!(
            fault(TlsConfig { certificate: None, ..pair.config.clone() }),
            "tls.certificate is not set, expected that of tls.key"
        );
        let absent = TlsConfig { key: Some("/absent/key.pem".into()), ..pair.config.clone() };
        assert!(fault(absent).starts_with("tls.key is /absent/key.pem, expected a PEM file: "));
        let (_, other) = generated();
        let (certificate, _) = generated();
        pair.write(&certificate, &other);
        assert!(
            fault(pair.config.clone()).starts_with("tls.key and tls.certificate cannot be served together: ")
        );
        pair.write("", &other);
        assert_eq!(
            fault(pair.config.clone()),
            "tls.certificate holds no certificate, expected a chain in PEM"
        );
    }
}
