"""Classes of torch and Lightning that any config may name, because they only compute."""

_LAYERS = """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool1d AvgPool2d BatchNorm1d BatchNorm2d BCEWithLogitsLoss
    Bilinear CELU Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d CrossEntropyLoss Dropout Dropout1d Dropout2d ELU
    Embedding EmbeddingBag Flatten GaussianNLLLoss GELU GroupNorm GRU Hardsigmoid Hardswish Hardtanh HuberLoss Identity
    InstanceNorm1d InstanceNorm2d KLDivLoss L1Loss LayerNorm LeakyReLU Linear LogSoftmax LSTM MaxPool1d MaxPool2d Mish MSELoss
    MultiheadAttention NLLLoss PReLU ReLU ReLU6 RMSNorm RNN SELU Sequential Sigmoid SiLU SmoothL1Loss Softmax Softplus
    Softsign Tanh TransformerEncoderLayer Unflatten
"""
_OPTIMIZERS = """
    Adadelta Adagrad Adam Adamax AdamW ASGD LBFGS NAdam RAdam RMSprop Rprop SGD SparseAdam
"""
_SCHEDULES = """
    ChainedScheduler ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LinearLR MultiStepLR
    OneCycleLR PolynomialLR ReduceLROnPlateau SequentialLR StepLR
"""

TORCH_CLASSES = frozenset(
    [
        *(f"torch.nn.{name}" for name in _LAYERS.split()),
        *(f"torch.optim.{name}" for name in _OPTIMIZERS.split()),
        *(f"torch.optim.lr_scheduler.{name}" for name in _SCHEDULES.split()),
        "pytorch_lightning.Trainer",  # its settings are checked apart
    ]
)
