//! The certificate that a server shows: read without trusting it, then judged as a connection would.

use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
};

use crate::oci::Digest;

/// A server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The digest of its DER form, which is what browsers show as fingerprint.
    pub fingerprint: Digest,
    /// When it ends; `None` where that could not be read.
    pub ends: Option<SystemTime>,
    /// Why it is not trusted; `None` where it is.
    pub distrust: Option<Distrust>,
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// No authority that is trusted here has signed it.
    Authority,
    /// It is not valid now.
    Expired,
    /// It is for other names.
    Name,
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("no authority that is trusted here has signed it"),
            Self::Expired => f.write_str("it is not valid today"),
            Self::Name => f.write_str("it is for another name"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// Begins TLS, lets every certificate pass, and judges the one that came by `verifier`.
pub(super) fn read(
    mut stream: TcpStream,
    host: &str,
    verifier: &Arc<dyn ServerCertVerifier>,
) -> Result<Certificate, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|_| "the host has no valid name".to_owned())?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Lenient(Arc::clone(verifier))))
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), name.clone()).map_err(|error| error.to_string())?;
    let ended = connection.complete_io(&mut stream);
    let Some(chain) = connection.peer_certificates().filter(|chain| !chain.is_empty()) else {
        return Err(match ended {
            Ok(_) => "it showed no certificate".to_owned(),
            Err(error) => error.to_string(),
        });
    };
    let judged = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now());
    Ok(Certificate {
        fingerprint: Digest::sha256(&chain[0]),
        ends: ends(&chain[0]),
        distrust: judged.err().map(|error| distrust(&error)),
    })
}

fn distrust(error: &Error) -> Distrust {
    match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => Distrust::Authority,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Distrust::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Distrust::Name
            }
            // A certificate that is its own authority and is not among the user's.
            CertificateError::Other(why) if format!("{why:?}").contains("CaUsedAsEndEntity") => {
                Distrust::Authority
            }
            other => Distrust::Other(other.to_string()),
        },
        other => Distrust::Other(other.to_string()),
    }
}

/// Lets every certificate pass: nothing is sent over the connection.
#[derive(Debug)]
struct Lenient(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Reads `notAfter` of a certificate (RFC 5280, section 4.1).
fn ends(der: &[u8]) -> Option<SystemTime> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(der).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut fields, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if element(fields)?.0 == VERSION {
        fields = element(fields)?.2;
    }
    // Serial number, signature algorithm, issuer; then the validity.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Splits off one DER element: its tag, its content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = rest.get(..usize::from(first & 0x7f)).filter(|bytes| (1..=4).contains(&bytes.len()))?;
        rest = &rest[bytes.len()..];
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    }
    Some((tag, rest.get(..length)?, &rest[length..]))
}

/// Reads a `UTCTime` or a `GeneralizedTime` in the form that certificates have.
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    const UTC_TIME: u8 = 0x17;
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let full = match tag {
        // Years up to 49 are of this century (RFC 5280, section 4.1.2.5.1).
        UTC_TIME if digits.get(..2)? < "50" => format!("20{digits}"),
        UTC_TIME => format!("19{digits}"),
        _ => digits.to_owned(),
    };
    if full.len() != 14 {
        return None;
    }
    let part = |from: usize, to: usize| &full[from..to];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    humantime::parse_rfc3339(&text).ok()
}

impl Certificate {
    /// Returns how long it is good for still; `None` where it is not, or where that is not known.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.ends?.duration_since(SystemTime::now()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read_and_others_are_not() {
        let shown = |tag, text: &str| time(tag, text).map(|time| humantime::format_rfc3339(time).to_string());
        assert_eq!(shown(0x17, "270102030405Z").as_deref(), Some("2027-01-02T03:04:05Z"));
        assert_eq!(shown(0x17, "990102030405Z").as_deref(), Some("1999-01-02T03:04:05Z"));
        assert_eq!(shown(0x18, "20510102030405Z").as_deref(), Some("2051-01-02T03:04:05Z"));
        for bad in ["", "Z", "2701020304Z", "271302030405Z", "27010203040éZ", "270102030405"] {
            assert_eq!(shown(0x17, bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_apart() {
        let judged = |why: CertificateError| distrust(&Error::InvalidCertificate(why));
        assert_eq!(judged(CertificateError::UnknownIssuer), Distrust::Authority);
        assert_eq!(judged(CertificateError::Expired), Distrust::Expired);
        assert_eq!(judged(CertificateError::NotValidYet), Distrust::Expired);
        assert_eq!(judged(CertificateError::NotValidForName), Distrust::Name);
        assert!(matches!(judged(CertificateError::Revoked), Distrust::Other(_)));
        assert!(matches!(distrust(&Error::DecryptError), Distrust::Other(_)));
    }

    #[test]
    fn nonsense_is_no_certificate() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x02\x30\x00",
            b"\x30\x05\x30\x03\x02\x01\x01",
        ] {
            assert_eq!(ends(der), None, "{der:?}");
        }
    }
}
