"""Which runs the settings give: parents, data, recipes, ablations, and what is refused."""

import pytest
import torch

from tests.papers.dual_ssl_kd.support import DIGITS, TERMS, mixed, outputs_of, raw, without_runs
from vitlib import load_study
from vitlib.papers.dual_ssl_kd import tables
from vitlib.papers.dual_ssl_kd.joint import loss_terms
from vitlib.papers.dual_ssl_kd.specs import ABLATIONS, Joint, Taught, run_ablation, run_downstream, run_student, run_tuned
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Teacher


@pytest.mark.parametrize(("method", "names"), [("baseline", []), ("kd-cl", ["cl"]), ("kd-mim", ["mim"]), ("two-frozen", ["cl", "mim"])])
@pytest.mark.parametrize("dataset", [None, "few"])
def test_a_taught_students_parents_are_its_fine_tuned_teachers(study, method, names, dataset):
    settings = study.settings
    run = run_downstream(settings, method=method, dataset=dataset, seed=3) if dataset else run_student(settings, method=method, seed=3)
    assert isinstance(run, Taught)
    assert [parent.teacher for parent in run.parents()] == [settings.teachers[name] for name in names]
    assert all(p.protocol == "finetune" and p.seed == 3 and p.data.per_class == run.data.per_class for p in run.parents())
    if not dataset:
        assert [p.id for p in run.parents()] == [run_tuned(settings, protocol="finetune", teacher=n, seed=3).id for n in names]


def test_the_documents_method_has_no_parents_and_its_weights(study, printed):
    run = run_student(study.settings, method="ours", seed=0)
    assert isinstance(run, Joint) and run.parents() == []
    known = {row["method"] if row["method"] != "all" else row["metric"]: float(row["value"]) for row in printed if row["table"] == "prose"}
    assert (run.lambda_1, run.lambda_2) == (known["lambda_1"], known["lambda_2"]) == (0.5, 0.0)
    assert run.output_weight == run.attention_weight == 1


def test_all_students_share_their_data_recipe_and_network(study):
    runs = [run_student(study.settings, method=name, seed=0) for name in tables.METHODS]
    assert len({run.id for run in runs}) == 5
    assert all((run.student, run.data, run.recipe) == (runs[0].student, runs[0].data, runs[0].recipe) for run in runs)


def test_teachers_of_different_normalisation_are_refused_since_one_batch_serves_both(study):
    other = Teacher(origin=study.settings.mim.untrained().origin.changed(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    with pytest.raises(SpecError, match=r"mim: pretrained with .*0\.5.* one batch serves all networks, so allowed: the same, or a mean"):
        study.settings.changed(mim=other)


@pytest.mark.parametrize("name", ["cl", "mim", "untrained"])
def test_a_reference_under_the_name_of_another_model_of_figure_1_is_refused(study, name):
    with pytest.raises(SpecError, match=rf"references: {name}; allowed: other names"):
        study.settings.changed(references={name: study.settings.mim})


@pytest.mark.parametrize("name", ["recipe", "finetune", "linear", "partial1"])
def test_a_moving_average_that_no_run_would_use_is_refused(name):
    with pytest.raises(SpecError, match=r"recipe\.ema_decay=0\.9; allowed: None"):
        load_study("dual_ssl_kd", "smoke", overrides={name: {"ema_decay": 0.9}})


@pytest.mark.parametrize("protocol", ["finetune", "linear", "partial1"])
def test_each_protocol_has_a_recipe_of_its_own(study, protocol):
    run = run_tuned(study.settings, protocol=protocol, teacher="mim", seed=0)
    assert (run.protocol, run.teacher, run.recipe) == (protocol, study.settings.mim, getattr(study.settings, protocol))


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_changes_what_its_name_says_and_nothing_else(study, variant):
    ours, other = run_student(study.settings, method="ours", seed=0), run_ablation(study.settings, variant=variant, seed=0)
    field, _, value = variant.partition(" = ")
    if variant.startswith("no "):
        field, value = f"{variant.split()[1]}_weight", 0
    assert {name for name in Joint.model_fields if getattr(ours, name) != getattr(other, name)} == {field}
    assert getattr(other, field) == float(value)


def test_names_of_downstream_sets_that_do_not_match_are_refused():
    for fields in ({"stands_for": {"other": "VOC2007"}}, {"downstream": {"other": DIGITS.model_dump(mode="json")}}):
        with pytest.raises(SpecError, match="stands_for: other; allowed"):
            load_study("dual_ssl_kd", "smoke", overrides=fields)


@torch.no_grad()
@pytest.mark.parametrize("term", ["output", "attention"])
def test_a_term_switched_off_is_followed_but_not_in_the_sum(study, term):
    leaves = raw()
    terms = loss_terms(outputs_of(leaves), mixed(3, 5), run_ablation(study.settings, variant=f"no {term} term", seed=0))
    assert terms.history[term] > 0
    rest = sum(terms.history[name] for name in TERMS if name != term)
    assert float(terms.total) == pytest.approx(rest, rel=1e-6)


def test_every_set_of_paper_is_read_in_a_way_that_its_recipe_honours(tmp_path):
    """RandAugment works on streamed images, and only folders are streamed."""
    settings = without_runs("paper", tmp_path).study.settings
    for data in (settings.data, *settings.downstream.values()):
        assert settings.recipe.augment.randaugment and not data.resident and data.source.startswith("folder/")


def test_students_of_figure_3_and_their_teachers_may_have_recipes_of_their_own(tmp_path):
    few, fine = {"epochs": 3, "batch_size": 10, "lr": 0.01}, {"epochs": 2, "batch_size": 10, "lr": 0.02}
    place = {"results_dir": str(tmp_path), "device": "cpu"}
    plain = load_study("dual_ssl_kd", "smoke", **place)
    own = load_study("dual_ssl_kd", "smoke", overrides={"downstream_recipe": few, "downstream_finetune": fine}, **place)
    runs = {cell.point["method"]: cell.spec for cell in own.cells if cell.table == "downstream"}
    assert {(run.recipe.epochs, run.recipe.lr) for run in runs.values()} == {(3, 0.01)}
    assert {(teacher.recipe.epochs, teacher.recipe.lr) for teacher in runs["kd-cl"].teachers} == {(2, 0.02)}
    for one, other in zip(plain.cells, own.cells, strict=True):
        assert one.table == "downstream" or one.id == other.id


def test_a_recipe_of_figure_3_is_refused_as_the_others_are():
    with pytest.raises(SpecError, match="ema_decay"):
        load_study("dual_ssl_kd", "smoke", overrides={"downstream_recipe": {"epochs": 1, "batch_size": 10, "lr": 0.1, "ema_decay": 0.9}})
