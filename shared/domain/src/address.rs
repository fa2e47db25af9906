//! Which network addresses a webhook may be sent to. Everything that is not
//! public is refused, unless the operator opened its range by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// IPv4 ranges that are not public (IANA special-purpose registry, RFC 6890).
const REFUSED_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),       // this network
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local, instance metadata
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarking
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved, broadcast
];

/// NAT64 (RFC 6052): judged by the IPv4 address in its last 32 bits, because an
/// IPv6-only subnet reaches every IPv4 receiver through it.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

/// IPv6 ranges that are not public.
const REFUSED_V6: &[Ipv6Net] = &[
    v6([0, 0, 0, 0], 8),           // unspecified, loopback, IPv4-mapped, -compatible, -translated
    v6([0x100, 0, 0, 0], 64),      // discard only
    v6([0x2001, 0, 0, 0], 23),     // protocol assignments, Teredo, ORCHID
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0], 16),     // 6to4
    v6([0x3fff, 0, 0, 0], 20),     // documentation
    v6([0x5f00, 0, 0, 0], 16),     // segment routing
    v6([0xfc00, 0, 0, 0], 7),      // unique local, instance metadata
    v6([0xfe80, 0, 0, 0], 10),     // link-local
    v6([0xfec0, 0, 0, 0], 10),     // site-local
    v6([0xff00, 0, 0, 0], 8),      // multicast
];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, 0), prefix)
}

/// Why an address or a URL's host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a public address")]
pub struct Forbidden(pub IpAddr);

/// The guard: what is public passes, and what the operator named.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Vec<IpNet>,
    refused: Vec<IpNet>,
}

impl Guard {
    /// A guard that also lets `allowed` pass.
    pub fn allowing(allowed: Vec<IpNet>) -> Self {
        Self { allowed, refused: Vec::new() }
    }

    /// The same guard, which also refuses these ranges although they are public:
    /// a network of our own may use any. What is allowed by name still passes.
    #[must_use]
    pub fn refusing(self, refused: Vec<IpNet>) -> Self {
        Self { refused, ..self }
    }

    /// Judges one address that is about to be dialled.
    ///
    /// # Errors
    /// [`Forbidden`] when it is not public and not in an allowed range.
    pub fn vet(&self, address: IpAddr) -> Result<(), Forbidden> {
        let named = |ranges: &[IpNet], address: IpAddr| ranges.iter().any(|range| range.contains(&address));
        let refused = named(&self.refused, address) || named(&self.refused, reached(address));
        if named(&self.allowed, address) || (is_public(address) && !refused) { Ok(()) } else { Err(Forbidden(address)) }
    }

    /// Judges the host of `url` when it is an address rather than a name. The
    /// URL standard's parser has already read every odd spelling (`0x7f.1`,
    /// `2130706433`, `[::ffff:127.0.0.1]`) into the address it stands for.
    ///
    /// # Errors
    /// [`Forbidden`] as for [`Guard::vet`].
    pub fn vet_literal(&self, url: &Url) -> Result<(), Forbidden> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.vet(address.into()),
            Some(Host::Ipv6(address)) => self.vet(address.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }
}

/// The address that is reached: NAT64 leads to the IPv4 address inside.
fn reached(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

/// Whether `address` is on the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match reached(address) {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|range| range.contains(&address)),
        IpAddr::V6(address) => !REFUSED_V6.iter().any(|range| range.contains(&address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_refused_range_is_closed_at_both_edges() {
        for range in REFUSED_V4 {
            for inside in [range.network(), range.broadcast()] {
                assert!(!is_public(inside.into()), "{inside}");
            }
        }
        for range in REFUSED_V6 {
            for inside in [range.network(), range.broadcast()] {
                assert!(!is_public(inside.into()), "{inside}");
            }
        }
    }

    #[test]
    fn the_neighbours_of_every_range_are_judged_on_their_own() {
        for range in REFUSED_V4 {
            let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
            for outside in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
                let address = Ipv4Addr::from(outside);
                let listed = REFUSED_V4.iter().any(|other| other.contains(&address));
                assert_eq!(is_public(address.into()), !listed, "{address}");
            }
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2003::1",
            "fbff::1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn the_well_known_traps_are_refused() {
        for trap in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::7f00:1",
            "::ffff:0:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(trap.parse().unwrap()), "{trap}");
        }
    }

    #[test]
    fn literals_in_every_spelling_are_the_address_they_stand_for() {
        let guard = Guard::default();
        for url in [
            "http://127.0.0.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://①②⑦.0.0.1/",
        ] {
            assert!(guard.vet_literal(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        assert!(Url::parse("http://[fe80::1%25eth0]/").is_err());
        assert!(guard.vet_literal(&Url::parse("http://localhost/").unwrap()).is_ok(), "names are vetted when resolved");
    }

    #[test]
    fn a_named_range_opens_and_nothing_beside_it() {
        let guard = Guard::allowing(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(guard.vet("127.9.9.9".parse().unwrap()).is_ok());
        assert!(guard.vet("::ffff:127.0.0.1".parse().unwrap()).is_err());
        assert!(guard.vet("10.0.0.1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_public_range_of_our_own_is_refused_unless_named() {
        let ours: IpNet = "52.1.0.0/16".parse().unwrap();
        let guard = Guard::default().refusing(vec![ours]);
        assert!(guard.vet("52.1.2.3".parse().unwrap()).is_err() && guard.vet("52.2.0.1".parse().unwrap()).is_ok());
        assert!(guard.vet("64:ff9b::3401:203".parse().unwrap()).is_err());
        let guard = Guard::allowing(vec!["52.1.2.0/24".parse().unwrap()]).refusing(vec![ours]);
        assert!(guard.vet("52.1.2.3".parse().unwrap()).is_ok() && guard.vet("52.1.3.3".parse().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn an_embedded_private_address_is_never_public(bits: u32) {
            let inner = Ipv4Addr::from(bits);
            let [a, b, c, d] = inner.octets();
            let tail = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            prop_assert!(!is_public(inner.to_ipv6_mapped().into()));
            prop_assert!(!is_public(Ipv6Addr::new(0x2002, tail[0], tail[1], 0, 0, 0, 0, 1).into()));
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, tail[0], tail[1]);
            prop_assert_eq!(is_public(nat64.into()), is_public(inner.into()));
        }

        #[test]
        fn what_the_standard_library_calls_special_is_refused(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_unspecified() || v4.is_multicast() {
                prop_assert!(!is_public(v4.into()));
            }
        }
    }
}
