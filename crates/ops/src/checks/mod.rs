//! The catalogue: one file for each check, in folders by group.
//!
//! A check's id is its folder and its file's name. The order here is the order of the report: causes before effects.

pub mod chain;
pub mod data;
pub mod engine;
pub mod env;
pub mod host;
pub mod journal;
pub mod leader;
pub mod node;
pub mod run;
pub mod score;
pub mod store;
pub mod time;
pub mod wallet;

use crate::check::Check;

/// All checks.
pub fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(env::bucket_key::BucketKey),
        Box::new(env::file_mode::FileMode),
        Box::new(env::unknown_variables::UnknownVariables),
        Box::new(env::reference_variables::ReferenceVariables),
        Box::new(env::config_file::ConfigFile),
        Box::new(env::secret_in_config::SecretInConfig),
        Box::new(wallet::hotkey::Hotkey),
        Box::new(wallet::file_modes::FileModes),
        Box::new(wallet::coldkey_absent::ColdkeyAbsent),
        Box::new(wallet::public_file::PublicFile),
        Box::new(chain::port::Port),
        Box::new(chain::reachable::Reachable),
        Box::new(chain::advances::Advances),
        Box::new(chain::subnet::Subnet),
        Box::new(chain::block_time::BlockTime),
        Box::new(chain::registered::Registered),
        Box::new(chain::balance::Balance),
        Box::new(chain::place_is_safe::PlaceIsSafe),
        Box::new(chain::commitment::Commitment),
        Box::new(chain::bucket_unique::BucketUnique),
        Box::new(chain::permit::Permit),
        Box::new(chain::leader::Leader),
        Box::new(chain::earning::Earning),
        Box::new(chain::weights_set::WeightsSet),
        Box::new(time::chain_skew::ChainSkew),
        Box::new(time::store_skew::StoreSkew),
        Box::new(time::kept::Kept),
        Box::new(store::url::Url),
        Box::new(store::port::Port),
        Box::new(store::write::Write),
        Box::new(store::endpoints::Endpoints),
        Box::new(store::read_by_peers::ReadByPeers),
        Box::new(store::anonymous_write::AnonymousWrite),
        Box::new(store::anonymous_delete::AnonymousDelete),
        Box::new(store::anonymous_list::AnonymousList),
        Box::new(store::list::List),
        Box::new(store::delete::Delete),
        Box::new(store::multipart::Multipart),
        Box::new(store::create_once::CreateOnce),
        Box::new(store::own_objects::OwnObjects),
        Box::new(store::upload_rate::UploadRate),
        Box::new(store::download_rate::DownloadRate),
        Box::new(run::descriptor::Descriptor),
        Box::new(run::protocol::Protocol),
        Box::new(run::hyper_parameters::HyperParameters),
        Box::new(run::alive::Alive),
        Box::new(run::checkpoint::Checkpoint),
        Box::new(run::checkpoint_loads::CheckpointLoads),
        Box::new(run::learning_rate::LearningRate),
        Box::new(data::manifest::Manifest),
        Box::new(data::places::Places),
        Box::new(data::shard::Shard),
        Box::new(data::tokenizer::Tokenizer),
        Box::new(data::samples::Samples),
        Box::new(data::cache::Cache),
        Box::new(host::memory::Memory),
        Box::new(host::cores::Cores),
        Box::new(host::load::Load),
        Box::new(host::open_files::OpenFiles),
        Box::new(host::locked_memory::LockedMemory),
        Box::new(host::disk_space::DiskSpace),
        Box::new(host::disk_rate::DiskRate),
        Box::new(host::sync_time::SyncTime),
        Box::new(engine::opens::Opens),
        Box::new(engine::computes::Computes),
        Box::new(engine::fits::Fits),
        Box::new(engine::meets_deadline::MeetsDeadline),
        Box::new(engine::driver::Driver),
        Box::new(node::directory::Directory),
        Box::new(node::private::Private),
        Box::new(node::free::Free),
        Box::new(node::running::Running),
        Box::new(node::state::State),
        Box::new(node::residual::Residual),
        Box::new(node::no_secrets::NoSecrets),
        Box::new(node::leftovers::Leftovers),
        Box::new(journal::present::Present),
        Box::new(journal::whole::Whole),
        Box::new(journal::grows::Grows),
        Box::new(journal::window::Window),
        Box::new(journal::version::Version),
        Box::new(journal::upload_margin::UploadMargin),
        Box::new(journal::upload_forecast::UploadForecast),
        Box::new(journal::in_time::InTime),
        Box::new(journal::steps::Steps),
        Box::new(journal::gather::Gather),
        Box::new(journal::outer_steps::OuterSteps),
        Box::new(journal::loss::Loss),
        Box::new(journal::in_step::InStep),
        Box::new(journal::warnings::Warnings),
        Box::new(score::accepted::Accepted),
        Box::new(score::weighted::Weighted),
        Box::new(score::incentive::Incentive),
        Box::new(score::evaluates::Evaluates),
        Box::new(leader::leads::Leads),
        Box::new(leader::descriptor::Descriptor),
        Box::new(leader::manifest::Manifest),
        Box::new(leader::checkpoint::Checkpoint),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_check_says_what_it_is_once() {
        let all: Vec<_> = all().iter().map(|check| check.about()).collect();
        assert!(all.len() >= 50, "{}", all.len());
        assert_eq!(all.iter().map(|about| about.id).collect::<BTreeSet<_>>().len(), all.len());
        for about in &all {
            for text in [about.title, about.reason, about.remedy] {
                assert!(text.len() > 8 && !text.ends_with('.'), "{}: {text:?}", about.id);
            }
        }
    }

    #[test]
    fn every_check_is_the_file_of_its_name_and_has_tests_in_which_it_passes_and_in_which_it_does_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checks");
        for check in all() {
            let (group, name) = check.about().id.split_once('.').unwrap();
            let path = root.join(group).join(format!("{name}.rs"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!([".passes(&", "Verdict::Pass"].iter().any(|word| text.contains(word)), "{} never passes", path.display());
            assert!(
                [".fails(&", ".warns(&"].iter().any(|word| text.contains(word))
                    || ["Verdict::Warn", "Verdict::Fail"].iter().any(|word| text.contains(word)),
                "{} never fails",
                path.display()
            );
        }
        let files = |group: &str| std::fs::read_dir(root.join(group)).unwrap().count() - 1;
        let groups: BTreeSet<_> = all().iter().map(|check| check.about().group()).collect();
        assert_eq!(groups.iter().map(|group| files(group)).sum::<usize>(), all().len(), "a file's check is not in the catalogue");
    }
}
