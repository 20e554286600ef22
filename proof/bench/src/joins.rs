//! Joins per second of one core: a real shard answers the offer, the ICE checks and the DTLS handshake of real
//! engines. Beside it the floor: the asymmetric cryptography that one DTLS handshake cannot do without.

use aws_lc_rs::{
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey as VerifyKey,
    },
};

use crate::{
    allocations,
    findings::{Bound, Finding},
    median::{median, nanos_per_unit, per_unit},
    scene::{ROOM_SIZE, Scene},
};

const JOINS: usize = 100;
const ROUNDS: usize = 9;
const HANDSHAKES: u64 = 500;
/// From the prototype: joins per second and core.
const EXPECTED: f64 = 3_000.0;

/// Prints the figures.
pub(crate) fn run() -> Vec<Finding> {
    println!(
        "joins: {JOINS} at once in rooms of {ROOM_SIZE}, from the request until media is connected"
    );
    println!("       us of CPU time of one shard per join, medians of {ROUNDS} rounds");
    round();
    let (mut costs, mut requests, mut floors, mut made) = (vec![], vec![], vec![], 0);
    for _ in 0..ROUNDS {
        floors.push(handshake());
        let before = allocations::made();
        let (cost, request) = round();
        costs.push(cost);
        requests.push(request);
        made = (allocations::made() - before) / JOINS;
    }
    let (cost, request, floor) = (median(&costs), median(&requests), median(&floors));
    let best = costs.iter().copied().fold(cost, f64::min);
    println!(
        "{:>9} {:>9} {:>9} {:>8} {:>10} {:>15}",
        "handshake", "request", "join", "x floor", "joins/s", "allocations"
    );
    println!(
        "{:>9.0} {:>9.0} {:>9.0} {:>8.2} {:>10.0} {made:>15}",
        floor / 1e3,
        request / 1e3,
        cost / 1e3,
        cost / floor,
        1e9 / cost,
    );
    vec![Finding {
        what: "joins per second and core".to_owned(),
        measured: 1e9 / cost,
        expected: Bound::AtLeast(EXPECTED),
        floor: format!("{:.0} in the best round, {:.0} bare handshakes", 1e9 / best, 1e9 / floor),
    }]
}

/// Nanoseconds of the shard per join, and how many of them for the request.
fn round() -> (f64, f64) {
    let mut scene = Scene::new(JOINS);
    scene.join(JOINS);
    let each = |span| per_unit(span, JOINS as u64);
    (each(scene.spent()), each(scene.signalling()))
}

/// Nanoseconds of a server's part in ECDHE with X25519 and P-256 certificates on both sides: a fresh key, the
/// agreement, one signature made and one verified.
fn handshake() -> f64 {
    let random = SystemRandom::new();
    let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a P-256 key");
    let verifier = VerifyKey::new(&ECDSA_P256_SHA256_ASN1, signer.public_key().as_ref());
    let fresh = || EphemeralPrivateKey::generate(&X25519, &random).expect("an X25519 key");
    let client = fresh().compute_public_key().expect("a public key");
    let client = UnparsedPublicKey::new(&X25519, client.as_ref());
    let message = [7; 128];
    nanos_per_unit(|| {
        for _ in 0..HANDSHAKES {
            let key = fresh();
            key.compute_public_key().expect("a public key");
            agree_ephemeral(key, client, (), |_| Ok(())).expect("a good key of the client");
            let signature = signer.sign(&random, &message).expect("P-256 signs");
            verifier.verify(&message, signature.as_ref()).expect("its own signature");
        }
        HANDSHAKES
    })
}
