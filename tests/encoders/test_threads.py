import threading

import pytest
import torch

from graticule.encoders.threads import in_threads


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_the_number_of_threads_comes_back(threads):
    made = []

    def worker():
        made.append(threading.get_ident())
        return lambda item: (item * item, torch.get_num_threads(), torch.is_inference_mode_enabled())

    found = list(in_threads(worker, range(50)))
    assert [square for square, _, _ in found] == [i * i for i in range(50)]
    assert {inside for _, inside, _ in found} == {1}
    assert all(mode for _, _, mode in found)
    assert 1 <= len(made) <= threads
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()


def test_no_more_than_a_few_are_worked_on_ahead(threads):
    begun = []
    results = in_threads(lambda: begun.append, range(100))
    assert begun == []
    next(results)
    assert len(begun) <= 3 * threads + 1
    results.close()
    assert len(begun) <= 3 * threads + 1
    assert torch.get_num_threads() == threads


def test_an_error_is_raised_where_its_result_would_come(threads):
    results = in_threads(lambda: lambda item: 1 // (3 - item), range(9))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert torch.get_num_threads() == threads


def test_nothing_to_do(threads):
    assert list(in_threads(lambda: lambda item: item, [])) == []
