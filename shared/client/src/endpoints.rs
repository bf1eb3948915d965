//! The addresses of the scheduler replicas.

use std::{fmt, str::FromStr};

/// The most addresses one list may hold.
const MAX_ADDRESSES: usize = 64;

/// Host and port of one replica, or of a name that resolves to several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host: a name or an IP address, without the brackets of IPv6.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = |why| AddressError::Malformed {
            address: text.to_owned(),
            why,
        };
        let bare = text.strip_prefix("http://").unwrap_or(text);
        if bare.contains("://") {
            return Err(malformed("only http:// is supported"));
        }
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let (host, port) = bare
            .rsplit_once(':')
            .ok_or_else(|| malformed("write it as host:port"))?;
        let port = match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(malformed("the port must be a number from 1 to 65535")),
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(malformed("brackets must hold an IPv6 address")),
            None => host,
        };
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let is_name = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            && host.len() <= 253;
        if host.is_empty() || !(is_v6 || is_name) {
            return Err(malformed(
                "the host must be a name or an IP address, IPv6 in brackets",
            ));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The addresses of the scheduler replicas, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<Address>);

impl Endpoints {
    /// Reads a comma-separated list of `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// The list is empty or too long, or one of its addresses is malformed.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut addresses: Vec<Address> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let address = item.parse()?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses.len() {
            0 => Err(AddressError::Empty),
            count if count > MAX_ADDRESSES => Err(AddressError::TooMany { count }),
            _ => Ok(Self(addresses)),
        }
    }

    /// The addresses in the order they were given.
    pub fn addresses(&self) -> &[Address] {
        &self.0
    }
}

impl FromStr for Endpoints {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{address}")?;
        }
        Ok(())
    }
}

/// Why a list of addresses cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The list is empty.
    #[error("no scheduler address given; write host:port, several separated by commas")]
    Empty,
    /// More addresses than a client keeps.
    #[error("{count} scheduler addresses given, at most {MAX_ADDRESSES} are allowed")]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// One address is not of the form `host:port`.
    #[error("scheduler address `{address}` is malformed: {why}")]
    Malformed {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_form_reads_as_host_and_port() {
        let endpoints = Endpoints::parse(" a:1 ,http://b.example:2/, [::1]:3,a:1").expect("valid");
        assert_eq!(endpoints.to_string(), "a:1,b.example:2,[::1]:3");
    }

    #[test]
    fn malformed_addresses_are_refused_by_name() {
        for bad in [
            "host",
            "host:",
            "host:0",
            "host:70000",
            "https://h:1",
            "[zz]:1",
            ":1",
            "a b:1",
            "a/b:1",
        ] {
            let error = Endpoints::parse(bad).expect_err(bad);
            assert!(error.to_string().contains(bad), "{error}");
        }
        assert_eq!(Endpoints::parse(" , "), Err(AddressError::Empty));
    }
}
