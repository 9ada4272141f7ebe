//! The client of Basilica's interface against a server that speaks it as it was recorded.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the finding")]

use std::time::Duration;
use templar_rent::basilica::Basilica;
use templar_rent::ledger::{Ledger, Limits, Stage};
use templar_rent::money::Usd;
use templar_rent::offer::{Offer, Wanted};
use templar_rent::provider::{Provider, ProviderError, RemoteState, StartRequest};
use templar_rent::rental::{Deal, reconcile, start, stop};
use templar_store::Secret;

#[path = "../../../tests/support/basilica.rs"]
mod basilica;
use basilica::{Server, TOKEN};

fn client(server: &Server, token: &str) -> Basilica {
    // A second installation is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Basilica::new(&server.url, Secret::new(token.to_owned()), Duration::ZERO).unwrap()
}

async fn h200(client: &Basilica) -> Offer {
    let wanted = Wanted { gpu: Some("h200".into()), gpus_min: 8, ..Wanted::default() };
    wanted.choose(client.offers(&wanted).await.unwrap().offers).into_iter().next().unwrap()
}

fn deal(offer: Offer) -> Deal {
    Deal {
        offer,
        price_hour: Some(Usd(40_000_000)),
        charged_ms_min: 3_600_000,
        limits: Limits::default(),
        trial: false,
        public_key: "ssh-ed25519 AAAA".into(),
        image: String::new(),
    }
}

#[tokio::test]
async fn machines_are_found_rented_listed_and_ended() {
    let server = Server::start();
    server.state().ssh = "ssh root@192.0.2.1 -p 2201".into();
    let client = client(&server, TOKEN);
    let offer = h200(&client).await;
    assert_eq!((offer.id.as_str(), offer.gpus, offer.gpu_memory_gb, offer.price_hour), ("exec-h200-8", 8, 141, None));
    let request = StartRequest { key: "k".into(), offer, public_key: "ssh-ed25519 AAAA".into(), image: String::new() };
    let id = client.start(&request).await.unwrap();
    assert_eq!(client.address(&id).await.unwrap().unwrap().to_string(), "root@192.0.2.1:2201");
    assert!(client.logs(&id, 5).await.unwrap().contains("hello from the container"));
    assert_eq!(client.rentals().await.unwrap()[0].state, RemoteState::Running);
    client.stop(&id).await.unwrap();
    client.stop("rental-99").await.unwrap();
    assert_eq!(client.rentals().await.unwrap()[0].state, RemoteState::Ended);
    let state = server.state();
    assert!(state.requests.contains(&"GET /executors?available=true&min_gpu_count=8".to_owned()), "{:?}", state.requests);
    let body = &state.bodies[0];
    assert_eq!(body["executor_selection"], serde_json::json!({ "type": "executor_id", "executor_id": "exec-h200-8" }));
    assert_eq!((body["ssh_public_key"].as_str(), body["no_ssh"].as_bool()), (Some("ssh-ed25519 AAAA"), Some(false)));
}

#[tokio::test]
async fn what_may_be_tried_again_is_and_a_rental_is_asked_for_once() {
    let server = Server::start();
    let client = client(&server, TOKEN);
    server.state().failing = 2;
    assert!(client.rentals().await.unwrap().is_empty());
    let offer = h200(&client).await;
    server.state().failing = 1;
    let request = StartRequest { key: "k".into(), offer, public_key: "p".into(), image: String::new() };
    assert!(matches!(client.start(&request).await, Err(ProviderError::Unclear { .. })));
    let posts = server.state().requests.iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[tokio::test]
async fn refusals_say_what_to_do_and_no_token() {
    let server = Server::start();
    let error = client(&server, "planted-wrong-token").rentals().await.unwrap_err().to_string();
    assert!(error.contains("BASILICA_API_AUTH_INVALID") && error.contains("BASILICA_API_TOKEN") && !error.contains("planted"), "{error}");
    let client = client(&server, TOKEN);
    let offer = Offer { id: "other".into(), ..h200(&client).await };
    let request = StartRequest { key: "k".into(), offer, public_key: "p".into(), image: String::new() };
    assert!(matches!(client.start(&request).await, Err(ProviderError::Refused { .. })));
    assert!(matches!(client.address("rental-9").await, Err(ProviderError::NoSuchRental { .. })));
}

#[tokio::test]
async fn the_ledger_follows_the_service() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    server.state().rentals.push(("rental-0".into(), "exec-h200-8".into(), "Active".into()));
    let client = client(&server, TOKEN);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let entry = start(&mut ledger, &client, &deal(h200(&client).await), "aa11", 1).await.unwrap();
    assert_eq!((entry.stage, entry.rental.as_deref()), (Stage::Running, Some("rental-2")));
    assert_eq!(reconcile(&mut ledger, &client, 2).await.unwrap().strangers.len(), 1);
    assert_eq!(stop(&mut ledger, &client, "aa11", "asked", 3).await.unwrap().stage, Stage::Ended);
    assert_eq!(server.state().rentals[0].2, "Active", "a stranger's rental is left alone");
    let text = std::fs::read_to_string(dir.path().join("ledger.json")).unwrap();
    assert!(!text.contains(TOKEN));
}
