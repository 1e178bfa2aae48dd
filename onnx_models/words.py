"""The classes of words and hosts that the feature set `posts` uses. They are plain lists, so that a
producer in any language can copy them.

They were chosen by hand, from posts of the training communities only. Words are in lower case.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BE = _words("is are it's that's be would should could have has will may does do")
SELF = _words("i i'm i've i'll i'd me my mine am myself")
READER = _words("you your you're you've you'll yours guys everyone anyone someone reddit redditors")
PEOPLE = _words(
    "people americans american america us world world's human humans student students school college kids women woman "
    "girl man men she her him they friend friends family employees programmers user users"
)
EMPHASIS = _words(
    "really just most ever never all so because than more only every everything always entire major super least"
)
NEGATION = _words(
    "not no don't doesn't isn't aren't can't won't didn't wasn't without wrong bad hate worst hard problem less stop "
    "nothing none"
)
BRANDS = _words(
    "apple apple's iphone ipad ios mac macbook microsoft microsoft's windows google google's facebook samsung "
    "samsung's galaxy nexus android chrome amazon sony xbox valve nvidia intel twitter tesla htc nokia motorola ubuntu "
    "siri surface adobe steam netflix gmail kindle hp dell blackberry glass playstation nintendo yahoo verizon comcast"
)
RELEASE = _words(
    "release released releases launch launched launches available announced announces official officially coming "
    "update updated finally new features leaked revealed unveiled unveils now today next first"
)
CRAFT = _words(
    "free open source project design designed build building built made making introduction guide tutorial list "
    "collection pdf ebook book books course simple tool tools library resources"
)
PRAISE = _words(
    "amazing amazingly awesome beautiful beautifully great cool nice good interesting incredible wonderful fantastic "
    "excellent stunning brilliant neat gorgeous love perfect enjoy fun impressive"
)
LAW = _words(
    "sopa pipa cispa acta copyright court congress law laws bill judge act senate senator supreme lawsuit government "
    "police patent patents eff privacy legal nsa fbi petition obama republican republicans democrats gop war tax "
    "rights ban banned surveillance snowden constitution"
)
MONEY = _words(
    "buy buying pay paid price prices job jobs market sales cost costs budget funding money billion million sell sold "
    "worth cheap dollars salary tax"
)
APPEAL = _words(
    "please help thank thanks need dear support vote sign donate save petition remember spread"
)

IMAGE_HOSTS = _words(
    "imgur.com quickmeme.com minus.com xkcd.com memegenerator.net twitpic.com instagram.com instagr.am photobucket.com"
)
PHOTO_HOSTS = _words(
    "flickr.com apod.nasa.gov upload.wikimedia.org deviantart.com 500px.com smugmug.com"
)
VIDEO_HOSTS = _words(
    "youtube.com youtu.be vimeo.com ted.com soundcloud.com dailymotion.com video.google.com liveleak.com"
)
BLOG_MARKS = ("blog", "wordpress", "tumblr", "medium.com")
NONCOMMERCIAL_ENDINGS = (".org", ".edu", ".gov", ".ac.uk")
