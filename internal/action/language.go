package action

import (
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/text/language"
)

// languages resolves Accept-Language to "zh" (the default) or "en", remembering headers seen.
type languages struct {
	matcher language.Matcher
	known   *lru.Cache[string, string]
}

func newLanguages() languages {
	known, _ := lru.New[string, string](256)
	return languages{language.NewMatcher([]language.Tag{language.Chinese, language.English}), known}
}

func (l *languages) of(header string) string {
	if header == "" || len(header) > 256 {
		return "zh"
	}
	if lang, ok := l.known.Get(header); ok {
		return lang
	}
	lang := "zh"
	if tags, _, err := language.ParseAcceptLanguage(header); err == nil {
		if _, i, confidence := l.matcher.Match(tags...); i == 1 && confidence > language.No {
			lang = "en"
		}
	}
	l.known.Add(header, lang)
	return lang
}
