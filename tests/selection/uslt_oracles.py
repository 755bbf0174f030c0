"""Slow, literal float64 versions of USL-T's losses, written from the formulas of the paper's section 3.4."""

import math


def softmax(logits):
    top = max(logits)
    powers = [math.exp(value - top) for value in logits]
    return [power / sum(powers) for power in powers]


def sharpened(probabilities, temperature):
    powers = [p ** (1 / temperature) for p in probabilities]
    return [power / sum(powers) for power in powers]


def local_loss(anchor, neighbor, ema, *, adjustment, temperature, momentum=0.5):
    """Loss of a batch of logits, and the running shares after it."""
    total, c = 0.0, len(ema)
    for own, other in zip(anchor, neighbor, strict=True):
        adjusted = [other[k] - adjustment * math.log(ema[k]) for k in range(c)]
        target = sharpened(softmax(adjusted), temperature)
        answer = softmax(own)
        total += sum(q * (math.log(q) - math.log(p)) for q, p in zip(target, answer, strict=True) if q > 0)
    seen = [sum(softmax(other)[k] for other in neighbor) / len(neighbor) for k in range(c)]
    after = [momentum * before + (1 - momentum) * now for before, now in zip(ema, seen, strict=True)]
    return total / len(anchor), [share / sum(after) for share in after]


def global_loss(weak, strong, *, threshold, balance, mean_outside_mask):
    """Loss of a batch of logits, and rows that count per cluster."""
    c = len(weak[0])
    counting = []
    for row, logits in enumerate(weak):
        probabilities = softmax(logits)
        if max(probabilities) > threshold:
            counting.append((row, probabilities.index(max(probabilities))))
    counts = [sum(cluster == k for _, cluster in counting) for k in range(c)]
    if not counting:
        return 0.0, counts
    seen = sum(count > 0 for count in counts)
    total = weight_sum = 0.0
    for row, cluster in counting:
        weight = {
            "none": 1.0,
            "reweight": 1 / (counts[cluster] / len(counting)),
            "renormalised": len(counting) / seen / counts[cluster],
        }[balance]
        total += weight * -math.log(softmax(strong[row])[cluster])
        weight_sum += weight
    return total / (len(weak) if mean_outside_mask else weight_sum), counts
