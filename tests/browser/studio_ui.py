"""Label Studio's pages as a person clicks through them; each step leaves a screenshot."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page


@dataclass
class StudioUI:
    """A logged-out browser before a running Label Studio."""

    page: Page
    url: str
    screenshots: Path
    _shots: int = 0

    def shot(self, name: str) -> None:
        """Keep what is seen now, numbered in the order of the walk."""
        # Buttons fade in and thumbnails load after the requests are through; a picture of half a page helps nobody.
        self.page.wait_for_timeout(700)
        self._shots += 1
        self.page.screenshot(path=self.screenshots / f"{self._shots:02}-{name}.png")

    def button(self, text: str) -> Locator:
        """By visible text: Label Studio's accessible names say something else than its buttons show."""
        return self.page.locator("button:visible", has_text=text)

    def log_in(self, email: str, password: str) -> None:
        self.page.goto(f"{self.url}/user/login/")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password]", password)
        with self.page.expect_navigation(url=lambda url: "/user/login" not in url):
            self.button("Log in").click()

    def connect_model(self, project: int, *, title: str, url: str, extra_params: str) -> None:
        """Settings > Model > Connect Model > Validate and Save."""
        self.page.goto(f"{self.url}/projects/{project}/settings/ml")
        self.button("Connect Model").first.click()
        self.page.fill("input[name=title]", title)
        self.page.fill("input[name=url]", url)
        self.page.fill("textarea[name=extra_params]", extra_params)
        self.shot("connect-model")
        self.button("Validate and Save").click()
        self.page.get_by_text("Connected", exact=True).wait_for()
        self.shot("connected")

    def start_training(self, project: int) -> None:
        """Model card > three dots > Start Training > Start Training."""
        self.page.goto(f"{self.url}/projects/{project}/settings/ml")
        self.page.locator("button[aria-label='Machine learning model options']").click()
        self.page.get_by_text("Start Training", exact=True).wait_for()
        self.shot("start-training-menu")
        self.page.get_by_text("Start Training", exact=True).click()
        self.shot("start-training")
        self.button("Start Training").last.click()
        self.page.get_by_text("Request Sent!").wait_for()
        self.shot("request-sent")

    def open_tab(self, project: int, title: str) -> None:
        """Data Manager > the tab of that name."""
        self.page.goto(f"{self.url}/projects/{project}/data")
        self.page.get_by_text(title, exact=True).first.click()
        self.page.locator(".lsf-table img").first.wait_for()
        self.shot("data-manager")

    def rows(self, count: int) -> list[int]:
        """Task ids of the table's first rows, top to bottom."""
        rows = self.page.locator(".lsf-table__row-wrapper")
        rows.nth(count - 1).wait_for()
        return [int(text.split()[0]) for text in rows.all_inner_texts()[:count]]

    def label_all_tasks(self) -> None:
        self.button("Label All Tasks").first.click()
        self.page.locator(".lsf-current-task__task-id").wait_for()

    def task_shown(self) -> int:
        """Id of the task that is open for labeling, once its picture is on the screen."""
        self.page.wait_for_function(
            "() => { const picture = document.querySelector('.lsf-image img');"
            " return picture && picture.complete && picture.naturalWidth > 0 }"
        )
        shown = self.page.locator(".lsf-current-task__task-id").evaluate(
            "node => node.firstChild.textContent"
        )
        return int(shown)

    def submit(self, choice: str) -> None:
        """Give a label and go on to the next task."""
        self.task_shown()
        self.page.locator(".lsf-choices").get_by_text(choice).first.click()
        self.confirm()

    def confirm(self) -> None:
        """Submit what is filled in and go on to the next task."""
        before = self.task_shown()
        self.button("Submit").first.click()
        self.page.wait_for_function(
            "before => { const node = document.querySelector('.lsf-current-task__task-id');"
            " return node && node.firstChild.textContent !== String(before) }",
            arg=before,
        )
