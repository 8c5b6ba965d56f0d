import pytest
import torch

from vanilla_transformer.training.schedule import get_paper_schedule, paper_learning_rate


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, 512**-0.5 * 4000**-1.5),
        (2, 512**-0.5 * 2 * 4000**-1.5),
        (4000, 512**-0.5 * 4000**-0.5),
        (4001, 512**-0.5 * 4001**-0.5),
    ],
)
def test_paper_learning_rate_follows_equation_3(step: int, expected: float) -> None:
    assert paper_learning_rate(step, 512) == pytest.approx(expected, rel=1e-15)


def test_the_rate_peaks_at_the_end_of_warmup() -> None:
    rates = [paper_learning_rate(step, 64, warmup=10) for step in range(1, 30)]
    assert max(rates) == rates[9]
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("step", "d_model", "warmup"), [(0, 8, 8), (1, 0, 8), (1, 8, 0)])
def test_bad_arguments_are_refused(step: int, d_model: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="must be positive, but is 0 instead"):
        paper_learning_rate(step, d_model, warmup)


def _rates(optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, n: int) -> list:
    rates = []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_update_n_has_exactly_the_rate_of_step_n() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=5e-5)
    scheduler = get_paper_schedule(optimizer, d_model=512, warmup=4000, scale=2.0)
    rates = _rates(optimizer, scheduler, 4001)
    for step in (1, 2, 4000, 4001):
        assert rates[step - 1] == paper_learning_rate(step, 512, 4000, 2.0)


def test_a_restored_schedule_goes_on_where_it_was() -> None:
    def make() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        return optimizer, get_paper_schedule(optimizer, d_model=16, warmup=5)

    whole = _rates(*make(), 12)
    optimizer, scheduler = make()
    _rates(optimizer, scheduler, 7)
    saved = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = make()
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    assert _rates(optimizer, scheduler, 5) == whole[7:]


def test_a_tensor_rate_is_set_in_place() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=torch.tensor(3.0), capturable=False)
    get_paper_schedule(optimizer, d_model=16, warmup=5)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(paper_learning_rate(1, 16, 5))


def test_a_scheduler_of_before_leaves_no_rate_behind() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], lr=1e-3)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    scheduler = get_paper_schedule(optimizer, d_model=64, warmup=4)
    assert _rates(optimizer, scheduler, 6) == [paper_learning_rate(n, 64, 4) for n in range(1, 7)]
