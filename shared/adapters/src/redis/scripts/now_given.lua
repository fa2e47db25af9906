local now = whole(table.remove(ARGV), 'now')
