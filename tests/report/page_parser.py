from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children = []

    def all(self, tag=None, **attributes):
        """Elements below this one, in order, with that tag and these attributes."""
        for child in self.children:
            if isinstance(child, Element):
                found = all(child.attributes.get(key.replace("_", "-")) == value for key, value in attributes.items())
                if found and tag in (None, child.tag):
                    yield child
                yield from child.all(tag, **attributes)

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class PageParser(HTMLParser):
    """A tree of the page; fails where tags are not closed in the order in which they were opened."""

    def __init__(self, text):
        super().__init__()
        self.root = self.at = Element("root", {}, None)
        self.feed(text)
        self.close()
        assert self.at is self.root, f"<{self.at.tag}> is not closed"

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag, attrs):
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag):
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.children.append(data)


def parsed(text):
    return PageParser(text).root
