"""A release: where it is, what its gates say, and how the new version fares beside the old one. Of the replica that steers it."""

from panels import *
from queries import *

OF = 'tulle_namespace="$namespace", tulle_release="$release"'
# What is not a number of seconds or requests, but a word.
LIGHTS = [(None, "green"), (1, "yellow"), (2, "red")]
GONE = [(None, "green"), (1, "red")]
WAITS = [(None, "green"), (1, "yellow")]
PROVEN = [(None, "green"), (1 / 300, "yellow"), (1, "red")]


def told(metric, where="", by=""):
    """While another replica takes over two may tell."""
    selected = f"{metric}{{{labels(OF, where)}}}"
    return f"max by ({by}) ({selected})" if by else f"max({selected})"


def in_phase(*phases):
    return told("tulle_release_phase", f'tulle_phase=~"{"|".join(phases)}"')


def dashboard():
    errors, asked = (told(f"tulle_release_step_{what}", by="tulle_version") for what in ["errors", "requests"])
    return page(
        "tulle-release",
        "A release: where it is, what its gates say, and how the new version fares beside the old one.",
        [
            variable("namespace", "Namespace", "Of the Release.", "label_values(tulle_release_phase, tulle_namespace)"),
            variable(
                "release",
                "Release",
                "By its name.",
                'label_values(tulle_release_phase{tulle_namespace="$namespace"}, tulle_release)',
            ),
        ],
        [
            stat(
                "Rolled back",
                "1: the new version gets nothing more but for what pods that it had let in must carry, and is still what is wanted.",
                "short",
                in_phase("Held"),
                GONE,
                ["TulleReleaseHeld"],
            ),
            stat("Paused", "1: it waits for somebody.", "short", in_phase("Paused"), WAITS, ["TulleReleasePaused"]),
            stat(
                "Waits for pods",
                "1: pods of the new version do not serve yet, or are taking the place of the old ones.",
                "short",
                in_phase("Waiting", "Promoting"),
                WAITS,
                ["TulleReleaseWaiting"],
            ),
            stat(
                "Nobody tells",
                "For how long too few sidecars have told what happens.",
                "s",
                told("tulle_release_silent_seconds"),
                [(None, "green"), (60, "red")],
                ["TulleReleaseBlind"],
            ),
            stat("Step", "From 1 on; 0: in none.", "short", told("tulle_release_step")),
            stat("Weight", "The share of the requests that the new version shall get.", "percentunit", told("tulle_release_weight_ratio")),
        ],
        "What speaks against it",
        [
            chart(
                "Evidence",
                "By gate, as a share of what would prove that the new version is worse. From 1 on it is stopped; from about a 300th on, with the usual `falseAlarm`, no step ends.",
                "percentunit",
                {"{{tulle_gate}}": told("tulle_release_evidence_ratio", by="tulle_gate")},
                PROVEN,
                most=1,
            ),
            chart(
                "Gates",
                "What each says: 0 nothing speaks against the new version, 1 something does, which may be chance, 2 it is proven.",
                "short",
                {"{{tulle_gate}}": told("tulle_release_gate_state", by="tulle_gate")},
                LIGHTS,
                most=2,
            ),
        ],
        [
            chart(
                "Errors",
                "The share of each version's requests that have failed in this step. Each step counts anew.",
                "percentunit",
                {"{{tulle_version}}": share(errors, asked)},
                ERRORS,
            ),
            chart(
                "Requests",
                "To each version, in this step: the new one needs `minRequests` before the step ends.",
                "short",
                {"{{tulle_version}}": asked},
            ),
        ],
        "Its way",
        [
            chart(
                "Share",
                "Of the requests that the new version shall get, and of those that it gets by the pods that there are.",
                "percentunit",
                {"wanted": told("tulle_release_weight_ratio"), "by its pods": told("tulle_release_share_ratio")},
                most=1,
            ),
            chart(
                "Phase",
                "The one that it is in.",
                "short",
                {"{{tulle_phase}}": told("tulle_release_phase", by="tulle_phase") + " > 0"},
                stacked=True,
            ),
        ],
    )
