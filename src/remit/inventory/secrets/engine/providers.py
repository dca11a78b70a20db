"""Names of services that hand out keys: beside a random value, one of them says what it is for."""

from __future__ import annotations

import itertools
import re

_NAMES = """
abstractapi abuseipdb accuweather adafruit adzuna aeroworkflow allsports ambee apideck apiflash apimatic appfollow appsynergy apptivo
 adzuna aeroworkflow allsports ambee apideck apiflash apimatic appfollow appsynergy apptivo adobe adyen agora ahrefs aikido airbrake airship airtable airvisual aiven alchemy alegra
aletheia algolia alibaba alienvault alphavantage amadeus amazon amplitude anthropic anypoint apacta apify apilayer apollo appcues
appdynamics appoptics appsflyer artifactory artsy asana assemblyai atera atlassian auth0 autodesk autopilot avaza aviationstack aws
aylien ayrshare azure bannerbear baremetrics beamer beebole besnappy bestbuy billomat bing bitbucket bitcoin bitfinex bitly bitmex
bittrex blazemeter blitapp blockchain bombbomb boost box braintree brandfetch browserstack budibase bugsnag buildkite bulbul caflou
calendarific calendly calorie campayn cannyio capsule carto caspio censys centralstation cex chartmogul chatbot chatfule checkout
cicero circleci clarifai clearbit clickhelp clicksend clickup cliengo clinchpad clockify clockwork cloud66 cloudconvert cloudelements
cloudflare cloudimage cloudinary cloudmersive cloudplan cloudsmith cloverly cloze clojars clustdoc codacy codeclimate codecov coinapi
coinbase coinlayer coinlib collect2 column commercejs commodities companyhub confluent contentful convertkit copper couchbase
countrylayer courier coveralls craftmypdf crowdin cryptocompare currencycloud currencyfreaks currents customerio datadog datagov
databricks deepgram deepai deepseek delighted demio deno deputy detectlanguage devcycle dfuse diffbot digitalocean discord disqus ditto
dnscheck docker docparser docusign doppler dotdigital dovico drip droneci dropbox duply dwolla dynatrace dyspatch eagleeye easypost
edamam edenai eightxeight elastic elevenlabs enablex enigma envoy eraser etherscan etsy everhour exchangerate exotel
eventbrite facebook faceplusplus fastforex fastly feedier fetchrss fibery figma fileio finage financial finicity finnhub flatio
fleetbase flickr flightapi flightlabs flightstats float flowflu flutterwave fmfw formbucket formcraft formio formsite foursquare
frameio freshbooks freshdesk freshworks front fulcrum fullstory gemini gengo geoapify geocode geocodio geoipify getemail getresponse
getgist getsandbox github gitlab gitter glassnode gocanvas gocardless goodday google grafana graphcms graphhopper groovehq groq
gtmetrix guardian gumroad gyazo happyscribe harvest heatmap helpcrunch helpscout hereapi heroku hive hiveage honeycomb host hotjar
html2pdf hubspot huggingface humanity hunter hybiscus iconfinder iexcloud imagekit imagga impala infobip infracost infura insightly
instabot instagram intercom interseller intrinio invoiceocean ipapi ipgeolocation ipinfo ipify ipquality ipstack jenkins jfrog jira
jotform jumpcloud jupiterone juro kairos kanban karma keenio kickbox klaviyo klipfolio knapsack kontent kraken kucoin kylas languagelayer
lastfm launchdarkly leadfeeder lemlist lendflow lessannoyingcrm lexigram linear linemessaging linenotify linkedin linkpreview liveagent
livestorm loadmill lob locationiq loggly loginradius logz lokalise looker loyverse lunchmoney luno m3o macaddress madkudu magento
magnetic mailboxlayer mailchimp mailerlite mailgun mailjet mailmodo mailsac mandrill manifest mapbox mapquest marketstack mattermost mavenlink
maxmind meaningcloud mediastack mesibo messagebird metaapi metabase metrilo microsoft midise mindmeister mite mixmax mixpanel mockaroo
moderation monday monkeylearn moonclerk moosend mrticktock mux myfreshworks myintervals nasdaq nethunt netlify netsuite neutrino newrelic
new[_-]?relic newsapi newscatcher nexmo nftport ngc ngrok nicereply nightfall nimble nitro noticeable notion nozbe npm nubela numverify nutritionix
nylas nytimes oanda okta omnisend onedesk onelogin onepage onesignal onfleet onwater oopspam openai opencage opengraphr openuv openvpn
openweather opsgenie optimizely orbit ovh overloop owlbot packetbeat pagerduty pagarme parsehub parseur particle partnerstack passbase pastebin
paydirt paymo paymongo paypal paystack pdflayer peopledatalabs pepipost percy perplexity pingdom pinata pinecone pipedream pipedrive pivotaltracker
pixabay plaid planetscale planview planyo plivo podio poloniex polygon positionstack postageapi postbacks posthog postman postmark powrbot
prefect privacy prodpad proofhub propublica prospect protocols proxycrawl pubnub pulumi purestake pushbullet pusher pushover qase qualaroo
qubole rapidapi raven rawg razorpay reachmail readme rebrandly recharge reddit redis refiner rentman repairshopr replicate restpack rev revamp
ringcentral ritekit roaring rocketreach rollbar ronin route4me rownd rubygems runrun saladcloud salesblink salescookie salesflare salesforce
salesloft satismeter saucelabs scalr scaleway scrape scraper scrapfly scraping screenshot securitytrails segment selectpdf semaphore
sendbird sendbluelayer sendgrid sendinblue sentiment sentry serphouse serpstack sherpadesk shipday shippo shodan shopify shortcut shotstack
shutterstock sidekiq sigopt simfin simplesat simplybook simvoly sinch siteleaf skrapp skybiometry slack smartsheets smartystreets smooch snipcart
snowflake snyk sonar sonarcloud sonarqube sourcegraph sparkpost speechtext splunk spoonacular spotify square squarespace squareup sslmate statuscake
statuspage statuspal stitchdata stockdata storecove stormboard stormglass storyblok storychief strava streak stripe stytch sugester sumologic supabase
supernotes surge surveyanyplace surveybot surveysparrow survicate swell swiftype tailscale tally tatum taxjar teamgate teamviewer teamwork
technicalanalysis telegram telesign telnyx terraform tencent text2data textmagic theoddsapi thinkific thousandeyes ticketmaster ticktick tiingo timecamp timezone
tineswebhook todoist toggl tomorrow tomtom tradier transferwise travelpayouts travisci trello trivy truora tru twelvedata twilio twist twitch twitter
tyntec typeform typetalk ubidots uclassify unifyid unplugg unsplash uplead uploadcare upwave uptimerobot upstash urlscan user userflow userstack vagrant vatlayer vault
vbout vercel verifier verimail veriphone versioneye vimeo viewneo virustotal visualcrossing voicegain voodoosms vouchery vpnapi vultr vyte walkscore
weatherbit weatherstack web3 webex webflow webscraper webscraping websitepulse wepay whoxy wistia wit woocommerce worksnaps workstack worldcoin worldweather
wrike xai xero yandex yelp youneedabudget youtube zapier zendesk zenkit zenrows zenscrape zenserp zeplin zerobounce zeit zipapi zipbooks zipcode zonka zoho zoom zulip
autoklose axonaut besttime bitbar bitcoinaverage blogger boostnote borgbase braintreepayments browshot buddyns bugherd captaindata
carboninterface checkvist closecrm codemagic convier d7network dailyco databox debounce dronahq eagleeyenetworks easyinsight elasticemail
exchangerateapi fixerio holidayapi ipinfodb larksuite microsoftteams packetcloud pandadoc planviewleankit scrapeowl scraperapi scrapersite
scrapestack screenshotapi screenshotlayer signalwire signaturit signupgenius sirv sportsmonk tmetric worldcoinindex yousign zipcodeapi
autoklose axonaut besttime bitbar bitcoinaverage blogger boostnote borgbase braintreepayments browshot buddyns bugherd captaindata
carboninterface checkvist closecrm codemagic convier d7network dailyco databox debounce dronahq eagleeyenetworks easyinsight elasticemail
exchangerateapi fixerio holidayapi ipinfodb larksuite microsoftteams packetcloud pandadoc planviewleankit scrapeowl scraperapi scrapersite
scrapestack screenshotapi screenshotlayer signalwire signaturit signupgenius sirv sportsmonk tmetric worldcoinindex yousign zipcodeapi
"""
_COMMON = frozenset(
    [
        "box",
        "hive",
        "host",
        "front",
        "float",
        "boost",
        "commodities",
        "moderation",
        "privacy",
        "prospect",
        "protocols",
        "financial",
        "verifier",
        "scrape",
        "particle",
        "segment",
        "square",
        "user",
        "route",
        "text",
        "manifest",
        "karma",
        "orbit",
        "magnetic",
        "screenshot",
        "sentiment",
        "timezone",
        "zipcode",
        "drip",
        "copper",
        "column",
        "collect",
        "impala",
        "raven",
        "guardian",
        "calorie",
        "courier",
        "envoy",
        "hunter",
        "float",
        "orb",
        "linear",
        "notion",
        "alchemy",
        "apollo",
        "chatbot",
        "rev",
        "twist",
        "percy",
        "capsule",
        "semaphore",
        "polygon",
    ]
)
_SERVICES = frozenset(re.sub(r"[^a-z0-9]", "", name) for name in _NAMES.split()) - _COMMON
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_ENDING = re.compile(r"(?:api|app|access|auth|secret|token|key|client|id)+$")


def names_a_service(text: bytes) -> bool:
    """True where `text` names a service that hands out keys."""
    words = [word.lower() for word in _WORD.findall(text.decode("latin-1"))]
    if not _SERVICES.isdisjoint(words):
        return True
    pairs = [one + two for one, two in itertools.pairwise(words)]
    return not _SERVICES.isdisjoint(pairs) or not _SERVICES.isdisjoint(_ENDING.sub("", word) for word in words)
