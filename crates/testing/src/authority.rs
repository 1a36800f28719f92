//! Certificates for servers that ask for TLS.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::failure::Failure;

/// A certificate authority of a test's own, which no other program trusts.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A server's certificate for the name `localhost`, and the key that belongs to it, both as PEM.
#[derive(Debug)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

fn made<T>(made: Result<T, rcgen::Error>) -> Result<T, Failure> {
    made.map_err(|cause| Failure::new(format!("a certificate cannot be made: {cause}")))
}

impl Authority {
    /// An authority with a key that was made just now.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be made.
    pub fn new() -> Result<Self, Failure> {
        let mut own = made(CertificateParams::new([]))?;
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = made(KeyPair::generate())?;
        let pem = made(own.self_signed(&key))?.pem();
        Ok(Self { issuer: Issuer::new(own, key), pem })
    }

    /// What a client has to trust, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server on `localhost`; a client that calls it by its address refuses it.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be made.
    pub fn certify(&self) -> Result<Certified, Failure> {
        let key = made(KeyPair::generate())?;
        let params = made(CertificateParams::new(["localhost".to_owned()]))?;
        let certificate = made(params.signed_by(&key, &self.issuer))?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }
}
