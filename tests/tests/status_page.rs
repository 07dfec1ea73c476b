//! The status page in a real browser: what it shows is what happens. `BMPD_SCREENSHOT=FILE` keeps a
//! picture of it, as the guide has one.

use std::{env, fs};

use lab::{
    browser::Browser,
    topology::STATION,
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

const PAGE: &str = "http://127.0.0.1:9179/";

fn trial() -> LabTrial {
    TrialPlan {
        system: "http listen 127.0.0.1 port 9179",
        bmp: "bmp-session 198.51.100.8 alias lab\n  tcp connect port 11020\n  connect-interface up1\n quit\n",
        ..TrialPlan::session("connect-interface up2")
    }
    .start_up()
}

/// Returns an attribute of the drawing's box of the session to the station.
fn attribute(browser: &Browser, name: &str) -> Value {
    browser.value(&format!(
        "document.querySelector('[data-session=\"_public_ {STATION} \"]')?.getAttribute('{name}') ?? null"
    ))
}

fn row(browser: &Browser) -> String {
    let text = browser.value(&format!("document.querySelector('[data-row=\"_public_ {STATION} \"]')?.innerText ?? ''"));
    text.as_str().unwrap_or_default().to_owned()
}

fn shows(browser: &Browser, what: &str, state: &str) {
    until(what, 3 * PATIENCE, || (attribute(browser, "data-state") == state).then_some(()));
}

#[test]
fn the_page_shows_a_link_that_loses_its_carrier_and_gets_it_back() {
    let trial = trial();
    let browser = Browser::open(&trial.topology.router, PAGE);
    shows(&browser, "the session is shown up", "up");
    assert_eq!(attribute(&browser, "data-interface"), "up2");
    let drawn = |text: &str| {
        let all = browser.value("document.getElementById('drawing').textContent");
        all.as_str().is_some_and(|all| all.contains(text))
    };
    assert!(drawn("192.0.2.65") && drawn("edge1"), "the uplink has its address, the device its name");

    if let Some(path) = env::var_os("BMPD_SCREENSHOT") {
        let size = json!({ "width": 960, "height": 420, "deviceScaleFactor": 1, "mobile": true });
        browser.ask("Emulation.setDeviceMetricsOverride", size);
        until("the page has the new width", PATIENCE, || (browser.value("innerWidth") == 960).then_some(()));
        fs::write(path, browser.picture()).expect("the picture can be written");
    }
    trial.topology.carrier_down("up2");
    let down = trial.bmpd.wait_down(STATION, "interface-down");
    shows(&browser, "the session is shown down", "down");
    let (reason, mend) = (down["reason"].as_str().expect("a reason"), down["mend"].as_str().expect("a mend"));
    until("the page says why, and what mends it", PATIENCE, || {
        let row = row(&browser);
        (row.contains(reason) && row.contains(mend)).then_some(())
    });
    assert_eq!(attribute(&browser, "data-interface"), "up2", "it is on its own interface still");
    until("the uplink is shown without a carrier", PATIENCE, || drawn("no carrier").then_some(()));
    let said = browser.value("document.getElementById('news').textContent");
    assert!(said.as_str().is_some_and(|said| said.contains("interface-down")), "{said}");

    trial.topology.carrier_up("up2");
    shows(&browser, "the session is shown up again", "up");
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_breaks_no_policy() {
    let trial = trial();
    let browser = Browser::open(&trial.topology.router, PAGE);
    shows(&browser, "the session is shown up", "up");
    for request in browser.events("Network.requestWillBeSent") {
        let url = request["request"]["url"].as_str().unwrap_or_default();
        assert!(url.starts_with(PAGE) || url.starts_with("data:"), "{url}");
    }
    for entry in browser.events("Log.entryAdded") {
        assert!(entry["entry"]["level"] != "error", "{entry}");
    }
    assert!(browser.events("Runtime.exceptionThrown").is_empty());
    // Inline code that is not the page's own does not run.
    browser.value(
        "const alien = document.createElement('script'); alien.textContent = 'window.alien = 1'; document.body.append(alien)",
    );
    assert_eq!(browser.value("window.alien ?? null"), Value::Null);
}

#[test]
fn the_page_can_be_used_by_keyboard_on_a_phone_and_in_the_dark() {
    let trial = trial();
    let browser = Browser::open(&trial.topology.router, PAGE);
    shows(&browser, "the session is shown up", "up");
    let ground = || browser.value("getComputedStyle(document.body).backgroundColor");
    let mode = |mode: &str| {
        let feature = json!([{ "name": "prefers-color-scheme", "value": mode }]);
        browser.ask("Emulation.setEmulatedMedia", json!({ "features": feature }));
        ground()
    };
    assert_ne!(mode("light"), mode("dark"));

    browser.ask(
        "Emulation.setDeviceMetricsOverride",
        json!({ "width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": true }),
    );
    until("the page fits a phone", PATIENCE, || {
        let width = browser.value("document.documentElement.scrollWidth").as_u64()?;
        (width <= 360).then_some(())
    });

    browser.value("document.querySelector('[data-session]').focus()");
    let focused = || browser.value("document.activeElement.getAttribute('data-session')");
    let first = focused();
    browser.press("ArrowDown");
    assert_ne!(focused(), first);
    browser.press("Enter");
    until("the details are shown", PATIENCE, || {
        let details = browser.value("document.getElementById('details').innerText");
        details.as_str().is_some_and(|text| text.contains("Enforcement")).then_some(())
    });
    // A new event draws everything anew, and the focus stays.
    let kept = focused();
    let drawing = "document.querySelector('#drawing svg')";
    browser.value(&format!("window.old = {drawing}; null"));
    until("the drawing is a new one", PATIENCE, || {
        (browser.value(&format!("window.old !== {drawing}")) == true).then_some(())
    });
    assert_eq!(focused(), kept);
}
