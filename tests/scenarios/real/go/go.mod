module twtrace.test/goweb

go 1.19
