// Reads the front page again now and then, and swaps what it shows: the place on the page, opened
// tables and the focus stay. It leaves alone what somebody is busy with.
"use strict";
{
    const wanted = document.getElementById("refresh-by-itself");
    const state = document.getElementById("refresh-state");
    const shown = () => document.getElementById("overview");

    const busy = () => {
        const selection = document.getSelection();
        const selects =
            !selection.isCollapsed && selection.anchorNode && shown().contains(selection.anchorNode);
        return document.hidden || selects || shown().contains(document.activeElement);
    };

    const swap = (fresh) => {
        for (const open of shown().querySelectorAll("details[open]")) {
            const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
            if (same) {
                same.open = true;
            }
        }
        const left = new Map();
        for (const box of shown().querySelectorAll(".scrolls")) {
            left.set(box.getAttribute("aria-label"), box.scrollLeft);
        }
        shown().replaceWith(document.adoptNode(fresh));
        for (const box of shown().querySelectorAll(".scrolls")) {
            box.scrollLeft = left.get(box.getAttribute("aria-label")) || 0;
        }
    };

    const refresh = async () => {
        if (!wanted.checked || busy()) {
            return;
        }
        try {
            const answer = await fetch(location.href, { credentials: "same-origin" });
            const page = new DOMParser().parseFromString(await answer.text(), "text/html");
            const fresh = page.getElementById("overview");
            if (!answer.ok || !fresh) {
                throw new Error(answer.redirected ? "you are logged out" : `status ${answer.status}`);
            }
            if (wanted.checked && !busy()) {
                swap(fresh);
            }
            state.textContent = "";
        } catch (error) {
            // Said once, and not again until it changes: screen readers read it aloud.
            const text = `Not refreshed: ${error.message}`;
            if (state.textContent !== text) {
                state.textContent = text;
            }
        }
    };

    // One after another, however slow the server is.
    const again = () =>
        setTimeout(() => refresh().finally(again), 1000 * Number(shown().dataset.refreshS));

    wanted.closest("p").hidden = false;
    again();
}
