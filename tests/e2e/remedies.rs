//! Every halt names a way out. It is taken here, on a real broker, until the instance is ready again and its sums are the log's.

use std::fs;

use tallyman::codec::Decoder;
use tallyman::kafka::KafkaSettings;

use crate::audit::Audit;
use crate::exact::{check_answers, wait_for_stores};
use crate::support::{Instance, PATIENCE, Site, kafka, wait_for};

/// A site whose instance has folded some usage and is stopped.
pub fn folded(kafka: &KafkaSettings) -> Site {
    let site = Site::new(kafka, &[]);
    folded_by(&site, "95");
    site
}

/// An instance of the site folds some usage and stops.
pub fn folded_by(site: &Site, seed: &str) {
    let instance = site.run();
    site.tell(&["produce", "--seed", seed, "--count", "5000", "--orgs", "20"]);
    site.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    instance.stop();
}

/// Waits until the instance has halted for `reason`; all that it gives as reasons.
pub fn halt_of(instance: &Instance, reason: &str) -> String {
    wait_for(&format!("a halt for {reason}"), PATIENCE, || {
        let (_, body) = instance.get("/readyz");
        body.contains(&format!("is halted ({reason})")).then_some(body)
    })
}

/// It is ready again, and what it answers is what the log holds.
pub fn is_well(site: &Site, instance: &Instance) {
    instance.wait_until_ready(PATIENCE);
    site.wait_for_the_end(PATIENCE);
    wait_for_stores(&site.kafka, &[instance]);
    check_answers(&[instance], &Audit::of(&site.kafka, Decoder::new(None)));
}

#[test]
fn a_store_of_other_settings_is_rebuilt_beside_the_running_instance() {
    let kafka = kafka().with_topics("other-settings", 2);
    let site = folded(&kafka);
    let data = format!("{:?}", site.path("data").display().to_string());
    let other = Site::new(&kafka, &[("dedupe.window", "\"12h\""), ("store.dir", &data)]);
    let instance = other.run();
    let told = halt_of(&instance, "store");
    assert!(told.contains("dedupe.window") && told.contains("`tallyman rebuild`"), "{told}");
    other.tell(&["rebuild", "--yes"]);
    is_well(&other, &instance);
    instance.stop();
}

#[test]
fn a_damaged_store_is_deleted_beside_the_running_instance() {
    let kafka = kafka().with_topics("damaged", 2);
    let site = folded(&kafka);
    let store = site.path("data").join("p0");
    for entry in fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            fs::write(&path, "damaged").unwrap();
        }
    }
    let instance = site.run();
    let told = halt_of(&instance, "store");
    assert!(told.contains("is damaged") && told.contains("delete the directory"), "{told}");
    fs::remove_dir_all(&store).unwrap();
    is_well(&site, &instance);
    instance.stop();
}
