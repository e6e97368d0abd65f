"""`disttorch.nn` beside PyTorch's: initial values, results and gradients, text, hooks, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn as our_nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

Make = Callable[[Any], Any]


def to_numpy(value: Any) -> Any:
    """Turn tensors of either library, also inside tuples and lists, into arrays."""
    if isinstance(value, (tuple, list)):
        return [to_numpy(v) for v in value]
    if hasattr(value, "detach"):
        return value.detach().numpy()
    return value


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-9) -> None:
    ours, theirs = to_numpy(ours), to_numpy(theirs)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b, tolerance)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    else:
        assert ours == theirs


def both(scenario: Callable[[Any], Any], tolerance: float = 1e-9) -> None:
    """Run the same code on both libraries and compare what it returns."""
    assert_same(scenario(disttorch), scenario(torch), tolerance)


def error_of(scenario: Callable[[Any], Any], library: Any) -> tuple[str, str]:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (the two libraries are compared)
        scenario(library)
    return type(caught.value).__name__, str(caught.value).replace("disttorch.", "torch.")


def same_error(scenario: Callable[[Any], Any]) -> None:
    assert error_of(scenario, disttorch) == error_of(scenario, torch)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# -- the networks of PyTorch's tutorials ----------------------------------------------------------


def make_net(nn: Any) -> Any:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            F = nn.functional
            x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = x.view(-1, 16 * 5 * 5)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    return Net()


def make_cnn(nn: Any) -> Any:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(4, 8, 5, 1, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(8 * 7 * 7, 10),
        nn.LogSoftmax(dim=1),
    )


INITIALISED: list[Make] = [
    lambda nn: nn.Linear(5, 7),
    lambda nn: nn.Linear(300, 200, bias=False),
    lambda nn: nn.Linear(4, 4, dtype=nn.Linear(1, 1).double().weight.dtype),
    lambda nn: nn.Conv1d(4, 6, 3, groups=2),
    lambda nn: nn.Conv2d(1, 16, (5, 3), padding=2),
    lambda nn: nn.Conv3d(2, 3, 2, bias=False),
    lambda nn: nn.LSTM(3, 5, num_layers=2, bidirectional=True),
    lambda nn: nn.LSTM(28, 64, bias=False, batch_first=True),
    make_net,
    make_cnn,
]


@pytest.mark.parametrize("seed", [0, 123456789012])
@pytest.mark.parametrize("make", INITIALISED, ids=range(len(INITIALISED)))
def test_initial_values_are_equal_bit_for_bit(make: Make, seed: int) -> None:
    disttorch.manual_seed(seed)
    torch.manual_seed(seed)
    ours, theirs = make(our_nn).state_dict(), make(torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    assert disttorch.rand(3).tolist() == torch.rand(3).tolist(), "the streams parted"


def test_embedding_starts_with_the_same_normal_numbers() -> None:
    def scenario(library: Any) -> Any:
        library.manual_seed(3)
        return library.nn.Embedding(7, 5, padding_idx=-2).weight

    both(scenario, 3e-7)


INITS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("uniform_", (3, 5), {"a": -2.0, "b": 3.0}),
    ("normal_", (4, 7), {"mean": 1.0, "std": 0.1}),
    ("normal_", (3,), {}),
    ("constant_", (2, 2), {"val": 0.3}),
    ("ones_", (2, 2), {}),
    ("zeros_", (2, 2), {}),
    ("eye_", (3, 5), {}),
    ("dirac_", (4, 2, 3), {}),
    ("dirac_", (4, 2, 3, 3), {"groups": 2}),
    ("dirac_", (2, 2, 3, 3, 3), {}),
    ("xavier_uniform_", (3, 5, 2), {"gain": 1.5}),
    ("xavier_normal_", (6, 5), {}),
    ("kaiming_uniform_", (3, 5), {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", (6, 5), {"a": 0.2}),
    ("trunc_normal_", (50,), {}),
    ("trunc_normal_", (50,), {"std": 2.0, "a": -0.5, "b": 0.25}),
    ("trunc_normal_", (40,), {"mean": 0.5, "std": 0.1, "a": 0.4, "b": 0.65}),
    ("sparse_", (10, 4), {"sparsity": 0.35}),
]


@pytest.mark.parametrize(("name", "shape", "options"), INITS)
def test_init_functions_draw_the_same_numbers(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    def scenario(library: Any) -> Any:
        library.manual_seed(7)
        filled = getattr(library.nn.init, name)(library.empty(shape), **options)
        return filled, library.rand(2)

    both(scenario, 3e-7)


def test_init_obeys_a_generator() -> None:
    def scenario(library: Any) -> Any:
        generator = library.Generator().manual_seed(5)
        return library.nn.init.xavier_uniform_(library.empty(3, 3), generator=generator)

    both(scenario)


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu"])
def test_gain(name: str) -> None:
    both(lambda library: library.nn.init.calculate_gain(name))
    both(lambda library: library.nn.init.calculate_gain("leaky_relu", 0.2))


# -- results and gradients ------------------------------------------------------------------------

LAYERS: list[tuple[Make, tuple[int, ...]]] = [
    (lambda nn: nn.Identity(3, some="argument"), (2, 3)),
    (lambda nn: nn.Linear(4, 3), (2, 5, 4)),
    (lambda nn: nn.Linear(4, 3, bias=False), (4,)),
    (lambda nn: nn.Conv1d(2, 4, 3, stride=2, padding=1), (2, 2, 9)),
    (lambda nn: nn.Conv1d(2, 2, 4, padding="same", dilation=2), (2, 2, 9)),
    (lambda nn: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), (2, 2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 3, 3, padding="same"), (2, 2, 5, 6)),
    (lambda nn: nn.Conv2d(2, 3, 3, padding="valid", dilation=2), (2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"), (2, 2, 5, 6)),
    (lambda nn: nn.Conv2d(2, 3, 4, padding="same", padding_mode="circular"), (2, 2, 5, 6)),
    (lambda nn: nn.Conv1d(2, 3, 3, padding=2, padding_mode="replicate"), (2, 2, 5)),
    (lambda nn: nn.Conv3d(1, 2, 2, bias=False), (2, 1, 3, 4, 3)),
    (lambda nn: nn.MaxPool1d(2), (2, 3, 7)),
    (lambda nn: nn.MaxPool2d(3, 2, 1), (2, 3, 7, 8)),
    (lambda nn: nn.MaxPool2d((2, 3), return_indices=True, ceil_mode=True), (2, 3, 7, 8)),
    (lambda nn: nn.MaxPool2d(2, dilation=2, stride=1), (3, 7, 8)),
    (lambda nn: nn.MaxPool3d(2), (1, 2, 4, 5, 4)),
    (lambda nn: nn.AvgPool1d(3, 2), (2, 3, 7)),
    (lambda nn: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 8)),
    (lambda nn: nn.AvgPool2d(2, ceil_mode=True, divisor_override=3), (2, 3, 7, 8)),
    (lambda nn: nn.AvgPool3d((2, 1, 2)), (1, 2, 4, 5, 4)),
    (lambda nn: nn.ReLU(), (3, 4)),
    (lambda nn: nn.ReLU6(), (3, 4)),
    (lambda nn: nn.LeakyReLU(0.2), (3, 4)),
    (lambda nn: nn.ELU(1.5), (3, 4)),
    (lambda nn: nn.SiLU(), (3, 4)),
    (lambda nn: nn.GELU(), (3, 4)),
    (lambda nn: nn.GELU(approximate="tanh"), (3, 4)),
    (lambda nn: nn.Hardtanh(-0.5, 0.75), (3, 4)),
    (lambda nn: nn.Sigmoid(), (3, 4)),
    (lambda nn: nn.LogSigmoid(), (3, 4)),
    (lambda nn: nn.Tanh(), (3, 4)),
    (lambda nn: nn.Softplus(2.0, 1.0), (3, 4)),
    (lambda nn: nn.Softmax(dim=-1), (3, 4)),
    (lambda nn: nn.LogSoftmax(dim=0), (3, 4)),
    (lambda nn: nn.Flatten(), (2, 3, 4)),
    (lambda nn: nn.Unflatten(1, (2, -1)), (3, 6)),
    (lambda nn: nn.Dropout(0.3), (5, 6)),
    (lambda nn: nn.Dropout(0.3).eval(), (5, 6)),
    (lambda nn: nn.ConstantPad1d((1, -2), 0.5), (2, 3, 6)),
    (lambda nn: nn.ZeroPad2d((1, 0, 2, 3)), (2, 3, 4, 5)),
    (lambda nn: nn.ConstantPad3d(1, 2.0), (2, 3, 4, 5)),
    (lambda nn: nn.ReflectionPad1d((2, 1)), (2, 3, 4)),
    (lambda nn: nn.ReflectionPad2d((1, 2, 3, 0)), (2, 3, 4, 5)),
    (lambda nn: nn.ReplicationPad2d((1, 2, 3, 0)), (3, 4, 5)),
    (lambda nn: nn.ReplicationPad3d((1, 2, 3, 0, 0, 1)), (1, 3, 4, 5, 2)),
    (lambda nn: nn.CircularPad1d((2, 3)), (1, 3, 4)),
    (lambda nn: nn.CircularPad2d((2, 3, 0, 1)), (1, 3, 4, 5)),
    (lambda nn: nn.LSTM(4, 3), (5, 2, 4)),
    (lambda nn: nn.LSTM(4, 3), (5, 4)),
    (lambda nn: nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), (2, 5, 4)),
    (lambda nn: nn.LSTM(4, 3, 3, bias=False, dropout=0.4), (5, 2, 4)),
    (lambda nn: nn.LSTM(4, 3, batch_first=True), (5, 4)),
    (make_net, (2, 1, 32, 32)),
    (make_cnn, (2, 1, 28, 28)),
]


def flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in flat(v)]
    return [value]


def run_layer(library: Any, make: Make, array: np.ndarray) -> Any:
    """Return the outputs, the gradient of the input and those of all parameters."""
    library.manual_seed(11)
    layer = make(library.nn).double()
    x = library.tensor(array, requires_grad=True)
    outputs = flat(layer(x * 1))
    loss = 0
    for k, out in enumerate(outputs):
        if out.dtype == library.float64:
            weight = library.tensor(numbers(*out.shape, seed=k))
            loss = loss + (out * weight).sum()
    loss.backward()
    return outputs, x.grad, [p.grad for p in layer.parameters()]


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=range(len(LAYERS)))
def test_layer_gives_the_same_results_and_gradients(make: Make, shape: tuple[int, ...]) -> None:
    both(lambda library: run_layer(library, make, numbers(*shape)))


def test_lstm_goes_on_from_a_given_state() -> None:
    def scenario(library: Any) -> Any:
        library.manual_seed(1)
        lstm = library.nn.LSTM(4, 3, 2, bidirectional=True).double()
        h, c = (library.tensor(numbers(4, 2, 3, seed=s), requires_grad=True) for s in (1, 2))
        output, (h_n, c_n) = lstm(library.tensor(numbers(5, 2, 4)), (h, c))
        (output.sum() + (h_n * c_n).sum()).backward()
        return output, h_n, c_n, h.grad, c.grad, lstm.weight_hh_l1_reverse.grad

    both(scenario)


def test_embedding() -> None:
    def scenario(library: Any) -> Any:
        library.manual_seed(1)
        table = library.nn.Embedding(6, 3, padding_idx=2, max_norm=1.0, dtype=library.float64)
        library.nn.init.uniform_(table.weight)
        found = table(library.tensor([[0, 2, 5], [5, 1, 0]]))
        (found * library.tensor(numbers(2, 3, 3))).sum().backward()
        return found, table.weight, table.weight.grad

    both(scenario)


# -- losses ---------------------------------------------------------------------------------------

REGRESSION = ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss"]


def run_loss(library: Any, make: Make, x: np.ndarray, target: np.ndarray) -> Any:
    scores = library.tensor(x, requires_grad=True)
    loss = make(library.nn)(scores, library.tensor(target))
    loss.sum().backward()
    return loss, scores.grad


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses(name: str, reduction: str) -> None:
    target = np.random.default_rng(1).random((3, 4))

    def make(nn: Any) -> Any:
        return getattr(nn, name)(reduction=reduction)

    both(lambda library: run_loss(library, make, numbers(3, 4), target))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_losses(reduction: str, weighted: bool) -> None:
    rng = np.random.default_rng(2)
    probabilities, target = rng.random((3, 4)), rng.random((3, 4))

    def scenario(library: Any) -> Any:
        weight = library.tensor(rng_weight) if weighted else None
        loss = library.nn.BCELoss(weight, reduction=reduction)
        logits = library.nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=weight)
        return [
            run_loss(library, lambda nn: loss, probabilities, target),
            run_loss(library, lambda nn: logits, probabilities, target),
        ]

    rng_weight = rng.random(4)
    both(scenario)


CLASSIFICATION: list[dict[str, Any]] = [
    {},
    {"ignore_index": 2},
    {"weight": numbers(5, seed=3) ** 2},
    {"weight": numbers(5, seed=3) ** 2, "ignore_index": 2, "label_smoothing": 0.1},
    {"label_smoothing": 0.2},
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", CLASSIFICATION, ids=range(len(CLASSIFICATION)))
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2), (5,)], ids=str)
def test_classification_losses(options: dict[str, Any], reduction: str, shape: tuple[int, ...]) -> None:
    one_each = (*shape[:1], *shape[2:]) if shape[1:] else ()
    classes = np.random.default_rng(4).integers(0, 5, one_each)
    soft = np.random.default_rng(5).random(shape)

    def scenario(library: Any) -> Any:
        given = {k: library.tensor(v) if k == "weight" else v for k, v in options.items()}
        entropy = library.nn.CrossEntropyLoss(reduction=reduction, **given)
        results = [run_loss(library, lambda nn: entropy, numbers(*shape), classes)]
        if "ignore_index" not in given:
            results.append(run_loss(library, lambda nn: entropy, numbers(*shape), soft))
        given.pop("label_smoothing", None)
        likelihood = library.nn.NLLLoss(reduction=reduction, **given)
        results.append(run_loss(library, lambda nn: likelihood, numbers(*shape), classes))
        return results

    both(scenario)


@pytest.mark.parametrize("old", [{"size_average": False}, {"reduce": False}, {"size_average": True}])
def test_old_reduction_arguments(old: dict[str, bool]) -> None:
    def scenario(library: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x, y = library.tensor(numbers(3, 4)), library.tensor(numbers(3, 4, seed=1))
            classes = library.tensor([0, 3, 1])
            F = library.nn.functional
            losses = [F.mse_loss(x, y, **old), library.nn.MSELoss(**old)(x, y)]
            losses.append(F.nll_loss(x, classes, **old))
        return losses, sorted({str(w.message) for w in caught})

    both(scenario)


# -- functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "mode", "value"),
    [((1, 2), "constant", 3.0), ((0, -1, 2, 0), "constant", None), ((-1, 2, 0, 0, 3, -2), "constant", 1.0),
     ((2, 1), "reflect", None), ((3, 1), "replicate", None), ((4, 4), "circular", None)],
)  # fmt: skip
def test_pad(sizes: tuple[int, ...], mode: str, value: float | None) -> None:
    def scenario(library: Any) -> Any:
        x = library.tensor(numbers(4, 3, 4), requires_grad=True)
        padded = library.nn.functional.pad(x, sizes, mode, value)
        (padded * library.tensor(numbers(*padded.shape, seed=1))).sum().backward()
        return padded, x.grad

    both(scenario)


def test_one_hot() -> None:
    both(lambda lib: lib.nn.functional.one_hot(lib.tensor([[0, 2], [1, 0]])))
    both(lambda lib: lib.nn.functional.one_hot(lib.tensor([0, 2]), num_classes=5))


@pytest.mark.parametrize("arguments", [([0, -1],), ([0, 5], 3), ([1, 0], 0)], ids=str)
def test_one_hot_errors(arguments: tuple[Any, ...]) -> None:
    same_error(lambda lib: lib.nn.functional.one_hot(lib.tensor(arguments[0]), *arguments[1:]))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "silu", "relu6", "hardtanh"])
def test_activations_in_place(name: str) -> None:
    def scenario(library: Any) -> Any:
        x = library.tensor(numbers(3, 4), requires_grad=True)
        y = x * 2
        out = getattr(library.nn.functional, name)(y, inplace=True)
        out.sum().backward()
        return out is y, y, x.grad

    both(scenario)


def test_clipping() -> None:
    def scenario(library: Any) -> Any:
        results = []
        for order in (2.0, 1.0, float("inf")):
            layer = library.nn.Linear(3, 2).double()
            for k, p in enumerate(layer.parameters()):
                p.grad = library.tensor(numbers(*p.shape, seed=k))
            total = library.nn.utils.clip_grad_norm_(layer.parameters(), 0.5, order)
            results += [total, [p.grad for p in layer.parameters()]]
            library.nn.utils.clip_grad_value_(layer.parameters(), 0.1)
            results.append([p.grad for p in layer.parameters()])
            grads = [p.grad for p in layer.parameters()]
            results.append(library.nn.utils.get_total_norm(grads, order))
        return results

    both(scenario)


def test_parameters_as_a_vector() -> None:
    def scenario(library: Any) -> Any:
        library.manual_seed(2)
        layer = library.nn.Linear(3, 2)
        vector = library.nn.utils.parameters_to_vector(layer.parameters())
        library.nn.utils.vector_to_parameters(vector * 2, layer.parameters())
        return vector, layer.weight, layer.bias

    both(scenario)


# -- modules --------------------------------------------------------------------------------------

PRINTED: list[Make] = [make for make, _ in LAYERS] + [
    lambda nn: nn.Module(),
    lambda nn: nn.Sequential(),
    lambda nn: nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh(), nn.ReLU()]),
    lambda nn: nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)),
    lambda nn: nn.ModuleList(),
    lambda nn: nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ModuleDict()}),
    lambda nn: nn.ParameterList([nn.Linear(2, 3).weight, nn.Linear(2, 3).bias.detach(), 3]),
    lambda nn: nn.ParameterDict({"b": nn.Linear(2, 3).weight, "a": "text"}),
    lambda nn: nn.Embedding(3, 4, padding_idx=0, max_norm=2, norm_type=1),
    lambda nn: nn.LSTM(3, 4, 2, bias=False, batch_first=True, dropout=0.5, bidirectional=True),
    lambda nn: nn.ELU(inplace=True),
    lambda nn: nn.ReLU(inplace=True),
    lambda nn: nn.Hardtanh(inplace=True),
    lambda nn: nn.CrossEntropyLoss(),
]


@pytest.mark.parametrize("make", PRINTED, ids=range(len(PRINTED)))
def test_printing(make: Make) -> None:
    assert repr(make(our_nn)) == repr(make(torch.nn))


def test_printing_a_parameter() -> None:
    def scenario(library: Any) -> Any:
        library.manual_seed(0)
        frozen = library.nn.Parameter(library.ones(2), requires_grad=False)
        return repr(library.nn.Linear(3, 2).weight), repr(frozen)

    both(scenario)


def shared(nn: Any) -> Any:
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.Sequential(layer, nn.ReLU()))
    net.register_buffer("kept", layer.weight.detach().clone())
    net.register_buffer("passing", layer.bias.detach(), persistent=False)
    net.register_buffer("absent", None)
    net.register_parameter("nothing", None)
    return net


def test_names_and_order() -> None:
    def scenario(library: Any) -> Any:
        net = shared(library.nn)
        return [
            [name for name, _ in net.named_parameters()],
            [name for name, _ in net.named_parameters(prefix="p", remove_duplicate=False)],
            [name for name, _ in net.named_parameters(recurse=False)],
            [name for name, _ in net.named_buffers()],
            [name for name, _ in net.named_modules()],
            [name for name, _ in net.named_modules(prefix="m", remove_duplicate=False)],
            [name for name, _ in net.named_children()],
            [type(m).__name__ for m in net.modules()],
            list(net.state_dict()),
            list(net.state_dict(prefix="x.")),
            {k: dict(v) for k, v in net.state_dict()._metadata.items()},
            [name for name in dir(net) if name in ("kept", "nothing", "0", "forward")],
        ]

    both(scenario)


def net_with_layers(library: Any) -> Any:
    nn = library.nn
    net = nn.Sequential()
    net.add_module("fc1", nn.Linear(2, 3))
    net.add_module("fc2", nn.Linear(3, 1))
    return net


@pytest.mark.parametrize("strict", [True, False])
def test_load_state_dict_reports_like_pytorch(strict: bool) -> None:
    def load(library: Any) -> Any:
        state = net_with_layers(library).state_dict()
        del state["fc1.bias"], state["fc2.weight"]
        state["extra"] = state["fc2.bias"]
        state["fc3.weight"] = state["fc2.bias"]
        state["fc1.weight"] = library.zeros(4, 2) if strict else state["fc1.weight"]
        return net_with_layers(library).load_state_dict(state, strict=strict)

    if strict:
        same_error(load)
    else:
        assert repr(load(disttorch)) == repr(load(torch))


def test_load_state_dict_of_wrong_things() -> None:
    same_error(lambda library: net_with_layers(library).load_state_dict([1]))

    def no_tensor(library: Any) -> Any:
        state = net_with_layers(library).state_dict()
        state["fc1.bias"] = 3
        return net_with_layers(library).load_state_dict(state)

    same_error(no_tensor)


def assign_wrongly(what: str) -> Callable[[Any], Any]:
    def scenario(library: Any) -> Any:
        nn = library.nn
        net = nn.Linear(2, 2)
        net.child = nn.ReLU()
        net.register_buffer("buffer", library.zeros(1))
        actions: dict[str, Callable[[], Any]] = {
            "tensor as parameter": lambda: setattr(net, "weight", library.zeros(2, 2)),
            "number as module": lambda: setattr(net, "child", 3),
            "number as buffer": lambda: setattr(net, "buffer", 3),
            "dotted parameter": lambda: net.register_parameter("a.b", None),
            "empty buffer name": lambda: net.register_buffer("", None),
            "number as parameter name": lambda: net.register_parameter(3, None),
            "taken name": lambda: net.register_buffer("training", None),
            "tensor registered": lambda: net.register_parameter("t", library.zeros(1)),
            "number as child": lambda: net.add_module("m", 3),
            "child of dots": lambda: net.add_module("m.n", nn.ReLU()),
            "no attribute": lambda: net.nothing,
            "no submodule": lambda: net.get_submodule("a.b"),
            "no module": lambda: net.get_submodule("weight"),
            "no parameter": lambda: net.get_parameter("child"),
            "no buffer": lambda: net.get_buffer("weight"),
            "integer type": lambda: net.to(library.int64),
            "train with a number": lambda: net.train(1),
            "no forward": lambda: nn.Module()(1),
            "an argument": lambda: nn.Module(1),
            "a keyword": lambda: nn.Module(a=1),
            "integer parameter": lambda: nn.Parameter(library.ones(2, dtype=library.int64)),
        }
        return actions[what]()

    return scenario


@pytest.mark.parametrize(
    "what",
    ["tensor as parameter", "number as module", "number as buffer", "empty buffer name",
     "number as parameter name", "taken name", "tensor registered", "number as child",
     "child of dots", "no attribute", "no submodule", "no module", "no parameter", "no buffer",
     "integer type", "train with a number", "no forward", "an argument", "a keyword"],
)  # fmt: skip
def test_errors_of_modules(what: str) -> None:
    same_error(assign_wrongly(what))


def test_assignment_before_init() -> None:
    def scenario(value: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(library: Any) -> Any:
            class Net(library.nn.Module):  # type: ignore[name-defined]
                def __init__(self) -> None:
                    self.x = value(library)

            return Net()

        return run

    same_error(scenario(lambda library: library.nn.ReLU()))
    same_error(scenario(lambda library: library.nn.Parameter(library.ones(1))))
    same_error(scenario(lambda library: library.nn.Buffer(library.ones(1))))


LAYER_ERRORS: list[Callable[[Any], Any]] = [
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 2, 3)),
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 2, 4, 1)),
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 2, 4, dtype=lib.float64)),
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 2, 4), (lib.zeros(1, 3, 3), lib.zeros(1, 2, 3))),
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 2, 4), (lib.zeros(1, 2, 3), lib.zeros(1, 2, 4))),
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 2, 4), (lib.zeros(1, 3), lib.zeros(1, 3))),
    lambda lib: lib.nn.LSTM(4, 3)(lib.zeros(5, 4), (lib.zeros(1, 1, 3), lib.zeros(1, 1, 3))),
    lambda lib: lib.nn.LSTM(0, 3),
    lambda lib: lib.nn.LSTM(4, -1),
    lambda lib: lib.nn.LSTM(4, 3, 0),
    lambda lib: lib.nn.LSTM(4, 3, bias=1),
    lambda lib: lib.nn.LSTM(4, 3.0),
    lambda lib: lib.nn.Conv2d(3, 4, 3, groups=2),
    lambda lib: lib.nn.Conv2d(4, 3, 3, groups=2),
    lambda lib: lib.nn.Conv2d(4, 3, 3, stride=2, padding="same"),
    lambda lib: lib.nn.Dropout(1.5),
    lambda lib: lib.nn.Unflatten(1, 3),
    lambda lib: lib.nn.Unflatten(1, (2, "x")),
    lambda lib: lib.nn.Hardtanh(1.0, -1.0),
    lambda lib: lib.nn.HuberLoss(delta="x"),
    lambda lib: lib.nn.Embedding(3, 2, padding_idx=5),
    lambda lib: lib.nn.init.calculate_gain("none"),
    lambda lib: lib.nn.init.xavier_normal_(lib.empty(3)),
    lambda lib: lib.nn.init.eye_(lib.empty(3)),
    lambda lib: lib.nn.init.dirac_(lib.empty(3, 3)),
    lambda lib: lib.nn.init.dirac_(lib.empty(3, 3, 3), 2),
    lambda lib: lib.nn.init.kaiming_normal_(lib.empty(3, 3), mode="fan"),
    lambda lib: lib.nn.Sequential(lib.nn.ReLU())[1],
    lambda lib: lib.nn.Sequential() * 0,
    lambda lib: lib.nn.Sequential() + 1,
    lambda lib: lib.nn.ModuleList(3),
    lambda lib: lib.nn.ParameterList(3),
    lambda lib: lib.nn.ParameterList()(1),
    lambda lib: lib.nn.ModuleDict(3),
]


@pytest.mark.parametrize("scenario", LAYER_ERRORS, ids=range(len(LAYER_ERRORS)))
def test_errors_of_layers(scenario: Callable[[Any], Any]) -> None:
    same_error(scenario)


# -- hooks ----------------------------------------------------------------------------------------


def test_forward_hooks_run_in_the_same_order_on_the_same_values() -> None:
    def scenario(library: Any) -> Any:
        seen: list[Any] = []

        class Scale(library.nn.Module):  # type: ignore[name-defined]
            def forward(self, x: Any, factor: float = 1.0) -> Any:
                return x * factor

        layer = Scale()
        layer.register_forward_pre_hook(lambda m, args: seen.append(("pre", args)))
        layer.register_forward_pre_hook(lambda m, args: args[0] + 1, prepend=True)
        layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": 3.0}), with_kwargs=True)
        layer.register_forward_hook(lambda m, args, out: seen.append(("post", args, out)))
        layer.register_forward_hook(lambda m, args, kwargs, out: out - 1, with_kwargs=True)
        removed = layer.register_forward_hook(lambda m, args, out: out * 100)
        removed.remove()
        return layer(library.tensor([1.0, 2.0]), factor=2.0), seen

    both(scenario)


def test_hooks_that_are_always_called() -> None:
    def scenario(library: Any) -> Any:
        seen: list[Any] = []
        layer = library.nn.Module()
        layer.register_forward_hook(lambda m, args, out: seen.append("no"))
        layer.register_forward_hook(lambda m, args, out: seen.append(("always", out)), always_call=True)
        with pytest.raises(NotImplementedError):
            layer(1)
        return seen

    both(scenario)


def test_backward_hooks_see_and_replace_the_same_gradients() -> None:
    def scenario(library: Any) -> Any:
        seen: list[Any] = []

        class Two(library.nn.Module):  # type: ignore[name-defined]
            def forward(self, x: Any, name: str, y: Any) -> Any:
                return x * 2, y * x, name

        layer = Two()
        layer.register_full_backward_pre_hook(lambda m, g: seen.append(("pre", g)))
        layer.register_full_backward_pre_hook(lambda m, g: tuple(v if v is None else v * 10 for v in g))
        layer.register_full_backward_hook(lambda m, gi, go: seen.append(("hook", gi, go)))
        layer.register_full_backward_hook(lambda m, gi, go: tuple(v if v is None else v + 1 for v in gi))
        x = library.tensor([1.0, 2.0], requires_grad=True)
        y = library.tensor([3.0, 4.0], requires_grad=True)
        a, b, _ = layer(x * 1, "name", y)
        (a.sum() + (b * b).sum()).backward(retain_graph=True)
        first = x.grad.clone(), y.grad.clone()
        (b * 2).sum().backward()
        return seen, first, x.grad, y.grad

    both(scenario)


def test_backward_hooks_materialise_the_gradient_of_an_unused_input() -> None:
    def scenario(library: Any) -> Any:
        seen: list[Any] = []

        class First(library.nn.Module):  # type: ignore[name-defined]
            def forward(self, x: Any, y: Any) -> Any:
                return x * 3

        layer = First()
        layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        x = library.ones(2, requires_grad=True)
        y = library.ones(3, requires_grad=True)
        layer(x, y).sum().backward()
        return seen, x.grad, y.grad

    both(scenario)


def test_backward_hooks_without_inputs_that_require_grad() -> None:
    def scenario(library: Any) -> Any:
        seen: list[Any] = []
        library.manual_seed(0)
        layer = library.nn.Linear(2, 1)
        layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer(library.ones(3, 2)).sum().backward()
        return seen, layer.weight.grad

    both(scenario)


def test_state_dict_hooks() -> None:
    def scenario(library: Any) -> Any:
        seen: list[Any] = []
        net = net_with_layers(library)
        net.fc1.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append((prefix, keep)))
        net.fc1.register_state_dict_post_hook(lambda m, state, prefix, meta: seen.append((list(state), prefix, meta)))
        net.fc1.register_load_state_dict_pre_hook(
            lambda m, state, prefix, meta, strict, missing, unexpected, errors: seen.append(
                (type(m).__name__, sorted(state), prefix, strict)
            )
        )
        net.fc2.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
        state = net.state_dict()
        del state["fc2.bias"]
        net.load_state_dict(state)
        return seen

    both(scenario)


@pytest.mark.parametrize("make", [make_net, make_cnn], ids=["net", "cnn"])
def test_training_by_hand_follows_pytorch(make: Make) -> None:
    size = 32 if make is make_net else 28
    pictures = numbers(4, 1, size, size).astype(np.float32)

    def scenario(library: Any) -> Any:
        library.manual_seed(0)
        net, losses = make(library.nn), []
        criterion = library.nn.CrossEntropyLoss()
        for _ in range(4):
            net.zero_grad()
            loss = criterion(net(library.tensor(pictures)), library.tensor([1, 2, 3, 4]))
            loss.backward()
            for p in net.parameters():
                p.data.sub_(p.grad.data * 0.1)
            losses.append(loss)
        return losses, list(net.parameters())

    both(scenario, 2e-5)
