//! `doctor --on slurm`.

use std::fs;

use crate::cluster::Cluster;
use crate::support::Answer;

#[test]
fn doctor_checks_the_cluster_and_its_nodes() {
    let mut cluster = Cluster::new("result done");
    let api = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    cluster.sandbox.set("ANTHROPIC_BASE_URL", url);
    let levels = |options: &[&str]| {
        let call = [&["doctor", "--on", "slurm", "--json"], options].concat();
        let answer = cluster.sandbox.run(call);
        let checks = answer["checks"].as_array().unwrap().clone();
        let of_cluster =
            checks.iter().filter(|check| check["name"].as_str().unwrap().starts_with("slurm"));
        let levels: Vec<String> = of_cluster
            .map(|check| {
                format!("{}: {}", check["name"].as_str().unwrap(), check["level"].as_str().unwrap())
            })
            .collect();
        levels.join(", ")
    };
    let always = "slurm: ok, slurm_kill: warning, slurm_processes: warning, slurm_files: warning";
    assert_eq!(levels(&[]), always);
    let probe = ["--probe", "--on-arg=-w n1"];
    assert_eq!(levels(&probe), format!("{always}, slurm_node: warning"));
    assert_eq!(cluster.calls("sbatch"), 0);
    fs::create_dir(cluster.sandbox.jobs()).unwrap();
    // The stand-in of a node has the environment of this test.
    assert_eq!(levels(&probe), format!("{always}, slurm_node: ok, slurm_locks: ok"));
    assert!(cluster.read("1.args").contains("-w n1\n--parsable\n--export=NONE\n"));
    assert!(cluster.read("2.args").contains("--exclude=n1\n"));
    assert!(cluster.read("calls").ends_with("scancel 1 2\n"), "{}", cluster.read("calls"));
    let call = ["doctor", "--on", "slurm", "--probe"];
    let locks = |answer: &Answer| {
        let checks = answer["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "slurm_locks").unwrap()["detail"].clone()
    };
    let found = "n1 and n2: flock locks exclude each other, fcntl locks exclude each other; \
                 link(2) excludes, by which jobs are claimed";
    assert_eq!(locks(&cluster.sandbox.run(call)), found);
    fs::write(cluster.dir.join("single"), "").unwrap();
    let detail = locks(&cluster.sandbox.run(call));
    assert!(detail.as_str().unwrap().starts_with("not tried with a second node"), "{detail}");
    drop(api);
    assert_eq!(levels(&probe), format!("{always}, slurm_node: error, slurm_locks: ok"));
    fs::write(cluster.dir.join("down"), "").unwrap();
    assert_eq!(levels(&[]), "slurm: error");
}
