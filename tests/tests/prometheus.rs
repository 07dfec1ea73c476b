//! The dashboard and the alerting rules, with a real Prometheus that scrapes a real bmpd.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lab::{
    prometheus::Prometheus,
    topology::STATION,
    trial::TrialPlan,
    wait::{PATIENCE, until},
};
use programs::Program;
use serde_json::Value;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bmp-user/packaging")
}

fn read(name: &str) -> String {
    fs::read_to_string(packaging().join(name)).expect("the file is readable")
}

/// Returns the queries of all panels, with values for the variables of Grafana.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana-dashboard.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("there are panels");
    let of_panel = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().expect("a panel has a title").to_owned();
        let targets = panel["targets"].as_array().expect("a panel has queries");
        let expressions = targets.iter().map(|target| target["expr"].as_str().expect("a query is text"));
        let filled = expressions.map(|query| {
            query
                .replace("$__rate_interval", "10s")
                .replace("$instance", ".*")
                .replace("$station", ".*")
                .replace("$job", ".*")
        });
        filled.map(|query| (title.clone(), query)).collect()
    };
    panels.iter().flat_map(of_panel).collect()
}

const SCRAPE: &str = "
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: bmpd
    static_configs: [{targets: ['127.0.0.1:9179']}]
";

#[test]
fn every_query_of_every_panel_returns_data_and_an_alert_fires() {
    let plan = TrialPlan {
        system: "http listen 127.0.0.1 port 9179",
        bmp: "bmp-session 198.51.100.8 alias lab\n  tcp connect port 11020\n  connect-interface up2\n quit\n",
        ..TrialPlan::session("connect-interface up2")
    };
    let trial = plan.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    let prometheus = Prometheus::start(&trial.topology.router, SCRAPE, &[("alerts.yml", &read("alerts.yml"))]);
    until("bmpd is scraped", 3 * PATIENCE, || {
        let targets = prometheus.api("/api/v1/targets");
        let target = &targets["activeTargets"][0];
        assert_ne!(target["health"], "down", "{target}");
        (target["health"] == "up").then_some(())
    });
    for (panel, query) in queries() {
        assert!(!query.contains('$'), "{panel}: {query}");
        until(&format!("panel `{panel}` has data: {query}"), 2 * PATIENCE, || {
            (!prometheus.query(&query).is_empty()).then_some(())
        });
    }
    // The session moves to the other uplink, and so to another source.
    trial.bmpd.commit(STATION, "connect-interface up1");
    until("the alert about another source fires", 3 * PATIENCE, || {
        let alerts = prometheus.query("ALERTS{alertname=\"BmpSessionSourceChanged\",alertstate=\"firing\"}");
        let station = STATION.to_string();
        alerts.iter().any(|alert| alert["metric"]["station"] == *station).then_some(())
    });
    assert_eq!(prometheus.query("scrape_samples_scraped > 100").len(), 1);
}

#[test]
fn every_alerting_rule_is_tested_by_promtool() {
    let run = |words: &[&str]| {
        let output = Program::Promtool.command().args(words).current_dir(packaging()).output().expect("promtool runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    run(&["check", "rules", "alerts.yml"]);
    run(&["test", "rules", "alerts-test.yml"]);
    let names = |text: &str, before: &str| -> BTreeSet<String> {
        let named = text.lines().filter_map(|line| Some(line.split_once(before)?.1));
        named.map(|name| name.split([',', ' ']).next().unwrap_or_default().to_owned()).collect()
    };
    // A test that expects an alert has its name on a line of its own.
    let tested: BTreeSet<_> = names(&read("alerts-test.yml"), "        alertname: ");
    assert_eq!(names(&read("alerts.yml"), "- alert: "), tested);
}
