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

fn unmade(cause: &rcgen::Error) -> Failure {
    Failure::new(format!("a certificate cannot be made: {cause}"))
}

impl Authority {
    /// An authority with a key that was made just now.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be made.
    pub fn new() -> Result<Self, Failure> {
        let mut own = CertificateParams::new([]).map_err(|cause| unmade(&cause))?;
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(|cause| unmade(&cause))?;
        let pem = own.self_signed(&key).map_err(|cause| unmade(&cause))?.pem();
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
        let key = KeyPair::generate().map_err(|cause| unmade(&cause))?;
        let params =
            CertificateParams::new(["localhost".to_owned()]).map_err(|cause| unmade(&cause))?;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(|cause| unmade(&cause))?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }
}
